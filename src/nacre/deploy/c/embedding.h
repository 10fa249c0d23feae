/* ---------------------------------------------------------------------------------------------------------------------
   The agent: offline PEARL or FOCAL. z is the mean of what the encoder says of every transition of the context */

/* Mean and variance of z, each [NACRE_LATENT_DIM]. */
static inline void nacre_belief(const nacre_session *s, float *mean, float *variance)
{
    const int32_t number = s->state.memory.num_transitions;
    int i;
    for (i = 0; i < NACRE_LATENT_DIM; i++) {
        mean[i] = s->state.memory.total[i] / (float)(number > 1 ? number : 1);
        variance[i] = 0.0f;
    }
}

static inline void nacre_settle(nacre_session *s)
{
    float variance[NACRE_LATENT_DIM];
    nacre_belief(s, s->state.memory.z, variance);
}

static inline void nacre_add(
    nacre_session *s, const float *obs, const float *action, float reward, const float *next_obs)
{
    const float *output = nacre_encode(s, obs, action, reward, next_obs);
    int i;
    s->state.memory.num_transitions++;
    for (i = 0; i < NACRE_LATENT_DIM; i++) s->state.memory.total[i] += tanhf(output[i]);
}

static inline void nacre_agent_begin(nacre_session *s, nacre_key key, const float *task)
{
    (void)key, (void)task;
    memset(&s->state.memory, 0, sizeof s->state.memory);
}

static inline void nacre_agent_act(nacre_session *s, const float *obs, const nacre_key *key, float *action)
{
    nacre_key own;
    if (key) {
        if (s->state.memory.num_transitions < NACRE_UNIFORM_STEPS) {
            uint32_t i;
            for (i = 0; i < NACRE_ACTION_DIM; i++) action[i] = nacre_uniform(nacre_fold_in(*key, 1), i, -1.0f, 1.0f);
            return;
        }
        own = nacre_fold_in(*key, 0);
        key = &own;
    }
    nacre_act_on(s, obs, key, action);
}

static inline void nacre_agent_observe(
    nacre_session *s, const float *obs, const float *action, float reward, const float *next_obs)
{
    if (!NACRE_ONE_EPISODE && s->state.memory.num_episodes >= NACRE_EXPLORATION_EPISODES) return;
    nacre_add(s, obs, action, reward, next_obs);
    if (NACRE_RE_INFERS) nacre_settle(s);
}

static inline void nacre_agent_end_episode(nacre_session *s, nacre_key key)
{
    if (NACRE_ONE_EPISODE) { /* every episode is a trial of its own */
        nacre_agent_begin(s, key, NULL);
        return;
    }
    s->state.memory.num_episodes++;
    if (NACRE_EXPLORES && !NACRE_RE_INFERS && s->state.memory.num_episodes >= NACRE_EXPLORATION_EPISODES)
        nacre_settle(s);
}

static inline void nacre_agent_absorb(
    nacre_session *s, const float *obs, const float *action, float reward, const float *next_obs)
{
    nacre_add(s, obs, action, reward, next_obs);
}

static inline void nacre_agent_end_absorbing(nacre_session *s, nacre_key key)
{
    (void)key;
    nacre_settle(s);
}

