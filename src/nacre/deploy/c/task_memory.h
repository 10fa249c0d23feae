typedef struct {
    int32_t num_episodes;
#if NACRE_LATENT_DIM
    float z[NACRE_LATENT_DIM];
#endif
} nacre_memory;

