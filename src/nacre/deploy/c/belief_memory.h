typedef struct {
    int32_t num_transitions, num_episodes;
    float z[NACRE_LATENT_DIM];
    float precision[NACRE_LATENT_DIM], weighted_mean[NACRE_LATENT_DIM]; /* sums of factors */
#if NACRE_NUM_HYPOTHESES
    uint32_t first, turn, turn_steps; /* the hypothesis that came first, the turn now, and its steps so far */
#endif
#if NACRE_BY_REWARDS
    float errors[NACRE_NUM_HYPOTHESES]; /* squared, of predicted rewards, less the least */
#endif
#if NACRE_UNITS
    nacre_cell cell;
#endif
} nacre_memory;

