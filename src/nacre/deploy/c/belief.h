/* ---------------------------------------------------------------------------------------------------------------------
   The agent: PEARL. z is drawn, after every episode, from a product of one Gaussian factor a transition, or by predicted
   rewards (NACRE_BY_REWARDS) */

/* Mean and variance of z, each [NACRE_LATENT_DIM]. */
static inline void nacre_belief(const nacre_session *s, float *mean, float *variance)
{
    const nacre_memory *memory = &s->state.memory;
    const int is_prior = NACRE_PRIOR_FACTOR || memory->num_transitions == 0;
    int i;
    for (i = 0; i < NACRE_LATENT_DIM; i++) {
        const float found = 1.0f / (is_prior ? memory->precision[i] + 1.0f : memory->precision[i]);
        mean[i] = found * memory->weighted_mean[i];
        variance[i] = NACRE_BOTTLENECK ? found : 0.0f;
    }
}

static inline void nacre_draw(nacre_session *s, int is_prior, nacre_key key)
{
    float mean[NACRE_LATENT_DIM], variance[NACRE_LATENT_DIM];
    uint32_t i;
    nacre_belief(s, mean, variance);
    for (i = 0; i < NACRE_LATENT_DIM; i++) {
        if (is_prior) mean[i] = 0.0f, variance[i] = NACRE_BOTTLENECK;
        s->state.memory.z[i] = mean[i] + sqrtf(variance[i]) * nacre_normal(key, i);
    }
}

#if NACRE_NUM_HYPOTHESES
/* z of an exploring episode: what was believed of a train task. */
static inline void nacre_try(nacre_session *s)
{
    const uint32_t row = s->state.memory.first * NACRE_NUM_TURNS + s->state.memory.turn % NACRE_NUM_TURNS;
    memcpy(s->state.memory.z, s->weights + NACRE_AT_HYPOTHESES + row * NACRE_LATENT_DIM, sizeof s->state.memory.z);
}

static inline void nacre_next_turn(nacre_session *s, int is_over)
{
    s->state.memory.turn += (uint32_t)is_over;
    s->state.memory.turn_steps = 0;
    nacre_try(s);
}
#endif

static inline void nacre_agent_begin(nacre_session *s, nacre_key key, const float *task)
{
    (void)task;
#if NACRE_NUM_HYPOTHESES
    s->state.memory.first = nacre_randint(key, NACRE_NUM_HYPOTHESES);
    s->state.memory.turn = s->state.memory.turn_steps = 0;
    nacre_try(s);
#else
    nacre_draw(s, 1, key);
#endif
}

/* z at every step of the episodes that use the belief: NACRE_RESAMPLE is 1 for its mean, 2 for a draw. */
static inline void nacre_infer(nacre_session *s)
{
    float variance[NACRE_LATENT_DIM];
    if (NACRE_RESAMPLE == 1)
        nacre_belief(s, s->state.memory.z, variance);
    else
        nacre_draw(s, 0, nacre_fold_in(s->state.act_key, s->state.num_steps));
}

static inline void nacre_agent_act(nacre_session *s, const float *obs, const nacre_key *key, float *action)
{
    nacre_key own;
    if (NACRE_RE_INFERS && (key || NACRE_ONE_EPISODE)) {
        float variance[NACRE_LATENT_DIM];
        nacre_belief(s, s->state.memory.z, variance);
    }
    if (NACRE_RESAMPLE && !key && s->state.memory.num_episodes >= NACRE_EXPLORATION_EPISODES)
        nacre_infer(s);
    if (key && NACRE_UNIFORM_STEPS > 0) {
        if (s->state.memory.num_transitions < NACRE_UNIFORM_STEPS) {
            uint32_t i;
            for (i = 0; i < NACRE_ACTION_DIM; i++) action[i] = nacre_uniform(nacre_fold_in(*key, 0), i, -1.0f, 1.0f);
            return;
        }
        own = nacre_fold_in(*key, 1);
        key = &own;
    }
    nacre_act_on(s, obs, key, action);
}

#if NACRE_BY_REWARDS
/* The belief about the train task whose predicted rewards are nearest to the trial's. */
static inline void nacre_judge(nacre_session *s, const float *obs, const float *action, float reward)
{
    const nacre_layer *first = nacre_rewards.layers;
    const nacre_network rest = {first + 1, nacre_rewards.num_layers - 1, 1, 0, 0, 0, 0.0f};
    const float *added = s->weights + NACRE_AT_ADDED;
    nacre_memory *memory = &s->state.memory;
    float seen[NACRE_WIDTH];
    float least;
    int likeliest = 0, k, i;
    memcpy(s->x, obs, NACRE_OBS_DIM * sizeof(float));
    memcpy(s->x + NACRE_OBS_DIM, action, NACRE_ACTION_DIM * sizeof(float));
    nacre_scale(s->weights, &nacre_rewards, s->x);
    nacre_dense(s->weights, first, first->out, s->x, seen);
    for (k = 0; k < NACRE_NUM_HYPOTHESES; k++, added += first->out) {
        float wrong;
        for (i = 0; i < first->out; i++) s->x[i] = fmaxf(seen[i] + added[i], 0.0f);
        wrong = nacre_run(s->weights, &rest, 1, s->x, s->y)[0] - reward;
        memory->errors[k] = NACRE_FORGETTING * memory->errors[k] + wrong * wrong;
        if (memory->errors[k] < memory->errors[likeliest]) likeliest = k;
    }
    least = memory->errors[likeliest];
    for (k = 0; k < NACRE_NUM_HYPOTHESES; k++) memory->errors[k] -= least;
    for (i = 0; i < NACRE_LATENT_DIM; i++) {
        memory->precision[i] = s->weights[NACRE_AT_PRECISION + likeliest * NACRE_LATENT_DIM + i];
        memory->weighted_mean[i] = s->weights[NACRE_AT_WEIGHTED_MEAN + likeliest * NACRE_LATENT_DIM + i];
    }
}
#else
/* The belief after one more factor, that of the encoder's output. */
static inline void nacre_take_in(nacre_memory *memory, const float *output)
{
    int i;
    for (i = 0; i < NACRE_LATENT_DIM; i++) {
        float factor = 1.0f;
        if (NACRE_BOTTLENECK) {
            const float raw = output[NACRE_LATENT_DIM + i];
            factor = 1.0f / fmaxf(fmaxf(raw, 0.0f) + log1pf(expf(-fabsf(raw))), NACRE_MIN_VARIANCE);
        }
        if (NACRE_UNITS) memory->precision[i] = memory->weighted_mean[i] = 0.0f; /* what it says is of all transitions */
        memory->precision[i] = NACRE_FORGETTING * memory->precision[i] + factor;
        memory->weighted_mean[i] = NACRE_FORGETTING * memory->weighted_mean[i] + factor * output[i];
    }
}
#endif

static inline void nacre_agent_observe(
    nacre_session *s, const float *obs, const float *action, float reward, const float *next_obs)
{
    nacre_memory *memory = &s->state.memory;
    memory->num_transitions++;
#if NACRE_NUM_HYPOTHESES
    if (memory->num_episodes < NACRE_EXPLORATION_EPISODES && ++memory->turn_steps == NACRE_HYPOTHESIS_STEPS)
        nacre_next_turn(s, 1);
#endif
#if NACRE_BY_REWARDS
    (void)next_obs;
    nacre_judge(s, obs, action, reward);
#else
    nacre_take_in(memory, nacre_encode(s, obs, action, reward, next_obs));
#endif
}

static inline void nacre_agent_end_episode(nacre_session *s, nacre_key key)
{
    const int explores = ++s->state.memory.num_episodes < NACRE_EXPLORATION_EPISODES;
#if NACRE_NUM_HYPOTHESES
    if (explores) {
        nacre_next_turn(s, s->state.memory.turn_steps > 0);
        return;
    }
#endif
    nacre_draw(s, explores, key);
}

