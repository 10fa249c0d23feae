/* ---------------------------------------------------------------------------------------------------------------------
   Random numbers: those of JAX (Threefry-2x32, Salmon et al. 2011; partitionable). A key is two words */

typedef struct { uint32_t a, b; } nacre_key;

static inline nacre_key nacre_threefry(nacre_key key, uint32_t x, uint32_t y)
{
    static const int turns[2][4] = {{13, 15, 26, 6}, {17, 29, 16, 24}};
    const uint32_t words[3] = {key.a, key.b, key.a ^ key.b ^ 0x1BD11BDAu};
    int block, i;
    x += words[0];
    y += words[1];
    for (block = 0; block < 5; block++) {
        for (i = 0; i < 4; i++) {
            const int turn = turns[block % 2][i];
            x += y;
            y = x ^ (y << turn | y >> (32 - turn));
        }
        x += words[(block + 1) % 3];
        y += words[(block + 2) % 3] + (uint32_t)(block + 1);
    }
    key.a = x;
    key.b = y;
    return key;
}

/* Part `number` of those that a key is split into; also the key that follows from it and a number. */
static inline nacre_key nacre_fold_in(nacre_key key, uint32_t number) { return nacre_threefry(key, 0, number); }

/* The random word of that number. */
static inline uint32_t nacre_bits(nacre_key key, uint32_t number)
{
    const nacre_key hash = nacre_threefry(key, 0, number);
    return hash.a ^ hash.b;
}

/* A whole number from 0 to number - 1. */
static inline uint32_t nacre_randint(nacre_key key, uint32_t number)
{
    const uint32_t high = nacre_bits(nacre_fold_in(key, 0), 0), low = nacre_bits(nacre_fold_in(key, 1), 0);
    const uint32_t root = 65536u % number, factor = root * root % number;
    return (high % number * factor + low % number) % number;
}

/* The uniform number of that number, from [low, high). */
static inline float nacre_uniform(nacre_key key, uint32_t number, float low, float high)
{
    const uint32_t word = nacre_bits(key, number) >> 9 | 0x3F800000u;
    float unit;
    memcpy(&unit, &word, sizeof unit);
    return fmaxf(low, (unit - 1.0f) * (high - low) + low);
}

/* The standard normal number of that number: the inverse error function of a uniform one (Giles 2010). */
static inline float nacre_normal(nacre_key key, uint32_t number)
{
    static const float central[9] = {
        2.81022636e-08f, 3.43273939e-07f, -3.5233877e-06f, -4.39150654e-06f, 0.00021858087f, -0.00125372503f,
        -0.00417768164f, 0.246640727f, 1.50140941f};
    static const float tail[9] = {
        -0.000200214257f, 0.000100950558f, 0.00134934322f, -0.00367342844f, 0.00573950773f, -0.0076224613f,
        0.00943887047f, 1.00167406f, 2.83297682f};
    const float x = nacre_uniform(key, number, -0.99999994f, 1.0f), w = -log1pf(-x * x);
    const float *factors = w < 5.0f ? central : tail;
    const float at = w < 5.0f ? w - 2.5f : sqrtf(w) - 3.0f;
    float sum = factors[0];
    int i;
    for (i = 1; i < 9; i++) sum = sum * at + factors[i];
    return 1.41421354f * sum * x;
}

