/* ---------------------------------------------------------------------------------------------------------------------
   Networks, for one input at a time */

#define NACRE_TILE 32

#ifdef FP_FAST_FMAF
#define NACRE_MULTIPLY_ADD(a, b, c) fmaf(a, b, c)
#else
#define NACRE_MULTIPLY_ADD(a, b, c) ((a) * (b) + (c))
#endif

typedef struct {
    int in, out;
    size_t at; /* where its weights begin */
} nacre_layer;

typedef struct {
    const nacre_layer *layers;
    int num_layers, is_relu; /* otherwise tanh, between layers */
    int num_scaled;          /* first inputs: less the mean, over the deviation, kept within the limit */
    size_t mean, std;
    float limit;
} nacre_network;

static inline float nacre_clip(float x, float low, float high) { return fmaxf(low, fminf(x, high)); }

/* The first `num` outputs of a layer, and those that fill their last tile. Weights lie in tiles of NACRE_TILE outputs:
   the biases, then a row for each input. A tile's sums stay in registers, and weights are read from first to last. */
static inline void nacre_dense(const float *weights, const nacre_layer *layer, int num, const float *x, float *y)
{
    const float *w = weights + layer->at;
    int first, i, t;
    for (first = 0; first < num; first += NACRE_TILE) {
        float sum[NACRE_TILE];
        for (t = 0; t < NACRE_TILE; t++) sum[t] = w[t];
        w += NACRE_TILE;
        for (i = 0; i < layer->in; i++, w += NACRE_TILE) {
            const float value = x[i];
            for (t = 0; t < NACRE_TILE; t++) sum[t] = NACRE_MULTIPLY_ADD(value, w[t], sum[t]);
        }
        for (t = 0; t < NACRE_TILE; t++) y[first + t] = sum[t];
    }
}

static inline void nacre_scale(const float *weights, const nacre_network *network, float *x)
{
    const float *mean = weights + network->mean, *std = weights + network->std;
    int i;
    for (i = 0; i < network->num_scaled; i++)
        x[i] = nacre_clip((x[i] - mean[i]) / std[i], -network->limit, network->limit);
}

/* The first `num` outputs for the inputs in x; they lie in x or in y. */
static inline float *nacre_run(const float *weights, const nacre_network *network, int num, float *x, float *y)
{
    int i, layer;
    nacre_scale(weights, network, x);
    for (layer = 0; layer < network->num_layers; layer++) {
        const nacre_layer *now = &network->layers[layer];
        const int is_last = layer == network->num_layers - 1;
        float *before = x;
        nacre_dense(weights, now, is_last ? num : now->out, x, y);
        x = y;
        y = before;
        if (is_last) return x;
        if (network->is_relu)
            for (i = 0; i < now->out; i++) x[i] = x[i] > 0.0f ? x[i] : 0.0f;
        else
            for (i = 0; i < now->out; i++) x[i] = tanhf(x[i]);
    }
    return x;
}

