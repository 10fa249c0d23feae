/* A recurrent cell: what it remembers. Its output is `hidden`. */
typedef struct {
    float hidden[NACRE_UNITS];
#if NACRE_IS_LSTM
    float memory[NACRE_UNITS];
#endif
} nacre_cell;

static inline float nacre_sigmoid(float x) { return 0.5f * tanhf(0.5f * x) + 0.5f; }

/* Takes in x. `seen`, `kept`: room for what the two layers say. */
static inline void nacre_cell_step(const float *weights, nacre_cell *cell, const float *x, float *seen, float *kept)
{
    int i;
    nacre_dense(weights, &nacre_of_input, nacre_of_input.out, x, seen);
    nacre_dense(weights, &nacre_of_hidden, nacre_of_hidden.out, cell->hidden, kept);
    for (i = 0; i < NACRE_UNITS; i++) {
        const int j = i + NACRE_UNITS, k = j + NACRE_UNITS;
        const float first = nacre_sigmoid(seen[i] + kept[i]), keep = nacre_sigmoid(seen[j] + kept[j]);
#if NACRE_IS_LSTM
        const float leave = nacre_sigmoid(seen[k + NACRE_UNITS] + kept[k + NACRE_UNITS]);
        cell->memory[i] = cell->memory[i] * keep + first * tanhf(seen[k] + kept[k]);
        cell->hidden[i] = leave * tanhf(cell->memory[i]);
#else
        const float fresh = tanhf(seen[k] + first * kept[k]);
        cell->hidden[i] = fresh + keep * (cell->hidden[i] - fresh);
#endif
    }
}

