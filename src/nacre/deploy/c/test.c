
static float weights[NACRE_NUM_FLOATS];
static nacre_session session;

static double microseconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return 1e6 * (double)now.tv_sec + 1e-3 * (double)now.tv_nsec;
}

/* A new trial in the recorded task. */
static void begin(void)
{
    nacre_begin(&session, weights, SEED, TASK);
    if (NACRE_ABSORBS)
        nacre_absorb(&session, LOG_OBS, LOG_ACTION, LOG_REWARD, LOG_NEXT_OBS, NUM_LOGGED);
}

/* The largest difference between an action and the recorded one. */
static float replayed(void)
{
    const float *obs = OBS, *wanted = ACTION, *reward = REWARD;
    float action[NACRE_ACTION_DIM], largest = 0.0f;
    int episode, step, i;
    begin();
    for (episode = 0; episode < NUM_EPISODES; episode++) {
        for (step = 0; step < STEPS[episode]; step++, wanted += NACRE_ACTION_DIM) {
            if (nacre_act(&session, obs, action) != NACRE_OK) return 3e38f;
            for (i = 0; i < NACRE_ACTION_DIM; i++) largest = fmaxf(largest, fabsf(action[i] - wanted[i]));
            obs += NACRE_OBS_DIM;
            if (nacre_observe(&session, obs, *reward++, NULL) != NACRE_OK) return 3e38f;
        }
        obs += NACRE_OBS_DIM; /* the last one of an episode */
        nacre_end_episode(&session);
    }
    return largest;
}

static int larger(const void *one, const void *other)
{
    const double a = *(const double *)one, b = *(const double *)other;
    return (a > b) - (a < b);
}

/* Takes steps on made-up observations; the median and the 99th percentile of their microseconds. */
static void time_steps(int number, double *p50, double *p99)
{
    static double taken[MOST_STEPS];
    float obs[2][NACRE_OBS_DIM], action[NACRE_ACTION_DIM];
    int step, i;
    for (step = 0; step < number; step++) {
        for (i = 0; i < NACRE_OBS_DIM; i++) {
            obs[0][i] = sinf((float)(7 * step + i));
            obs[1][i] = sinf((float)(7 * step + 7 + i));
        }
        taken[step] = microseconds();
        nacre_act(&session, obs[0], action);
        nacre_observe(&session, obs[1], obs[1][0], NULL);
        taken[step] = microseconds() - taken[step];
        if (session.state.num_steps % HORIZON == 0) nacre_end_episode(&session);
    }
    qsort(taken, (size_t)number, sizeof taken[0], larger);
    *p50 = taken[number / 2];
    *p99 = taken[number - 1 - number / 100];
}

int main(int argc, char **argv)
{
    const char *path = argc > 1 ? argv[1] : "weights.bin";
    const int number = argc > 2 ? atoi(argv[2]) : 2000, context = argc > 3 ? atoi(argv[3]) : 10000;
    FILE *file = fopen(path, "rb");
    const size_t found = file ? fread(weights, sizeof weights[0], NACRE_NUM_FLOATS, file) : 0;
    double early[2], late[2];
    float difference, action[NACRE_ACTION_DIM];
    if (file) fclose(file);
    if (nacre_check(weights, found) != NACRE_OK) {
        fprintf(stderr, "policy_test: %s is not what was exported; copy the bundle anew.\n", path);
        return 2;
    }
    difference = replayed();
    printf("largest difference from the recorded actions: %.1e\n", (double)difference);
    if (!(difference <= TOLERANCE)) {
        fprintf(stderr, "policy_test: the self-test failed; compile without -ffast-math, and copy the bundle anew.\n");
        return 2;
    }
    if (number < 1 || number > MOST_STEPS) return 0;
    begin();
    time_steps(number, &early[0], &early[1]); /* warms up */
    begin();
    time_steps(number, &early[0], &early[1]);
    while (session.state.num_steps < (uint32_t)context) {
        nacre_act(&session, OBS, action);
        nacre_observe(&session, OBS, 0.0f, NULL);
    }
    time_steps(number, &late[0], &late[1]);
    printf("a step takes %.2f us (p50), %.2f us (p99); after %d steps %.2f us, %.2f us\n", early[0], early[1],
        context, late[0], late[1]);
    return 0;
}
