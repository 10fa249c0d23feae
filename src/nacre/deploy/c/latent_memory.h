typedef struct {
    int32_t num_steps, num_episodes; /* steps of the current episode */
    float z[NACRE_LATENT_DIM], mean[NACRE_LATENT_DIM], log_std[NACRE_LATENT_DIM];
    float past_z[NACRE_KEPT][NACRE_LATENT_DIM], past_density[NACRE_KEPT], past_return[NACRE_KEPT];
    float reward; /* discounted, of the current episode */
} nacre_memory;

