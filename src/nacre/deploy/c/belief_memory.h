typedef struct {
    int32_t num_transitions, num_episodes;
    float z[NACRE_LATENT_DIM];
    float precision[NACRE_LATENT_DIM], weighted_mean[NACRE_LATENT_DIM]; /* sums of factors */
#if NACRE_NUM_HYPOTHESES
    float distance[NACRE_NUM_HYPOTHESES]; /* from the nearest that was tried; -1 where it was */
#endif
#if NACRE_UNITS
    nacre_cell cell;
#endif
} nacre_memory;

