/* What a transition, or with a recurrent cell all of them, tells of the task. */
static inline const float *nacre_encode(
    nacre_session *s, const float *obs, const float *action, float reward, const float *next_obs)
{
    float *x = s->x;
    memcpy(x, obs, NACRE_OBS_DIM * sizeof(float));
    memcpy(x + NACRE_OBS_DIM, action, NACRE_ACTION_DIM * sizeof(float));
    x[NACRE_OBS_DIM + NACRE_ACTION_DIM] = reward;
    if (NACRE_SEES_NEXT_OBS) memcpy(x + NACRE_OBS_DIM + NACRE_ACTION_DIM + 1, next_obs, NACRE_OBS_DIM * sizeof(float));
#if NACRE_UNITS
    {
        const int num = nacre_of_input.in;
        float *output = nacre_run(s->weights, &nacre_encoder, num, s->x, s->y);
        int i;
        for (i = 0; i < num; i++) output[i] = output[i] > 0.0f ? output[i] : 0.0f;
        nacre_cell_step(s->weights, &s->state.memory.cell, output, s->seen, s->kept);
        memcpy(x, s->state.memory.cell.hidden, sizeof s->state.memory.cell.hidden);
        return nacre_run(s->weights, &nacre_head, NACRE_ENCODED, s->x, s->y);
    }
#else
    return nacre_run(s->weights, &nacre_encoder, NACRE_ENCODED, s->x, s->y);
#endif
}

