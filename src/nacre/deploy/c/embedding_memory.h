typedef struct {
    int32_t num_transitions, num_episodes;
    float z[NACRE_LATENT_DIM];
    float total[NACRE_LATENT_DIM]; /* of what the encoder says */
} nacre_memory;

