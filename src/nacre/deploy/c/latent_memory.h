typedef struct {
    int32_t num_steps, num_episodes; /* steps of the episode that continues */
    float z[NACRE_LATENT_DIM], mean[NACRE_LATENT_DIM], log_std[NACRE_LATENT_DIM];
    float past_z[NACRE_KEPT][NACRE_LATENT_DIM], past_density[NACRE_KEPT], past_return[NACRE_KEPT];
    float reward; /* discounted, of the episode that continues */
} nacre_memory;

