typedef struct {
    int32_t num_episodes;
    nacre_cell cell;
    float before[NACRE_ACTION_DIM + 2]; /* the last action, reward, and whether an episode has ended */
} nacre_memory;

