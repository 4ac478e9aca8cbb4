import type { z } from 'zod';
import type { HealthReport } from './login-types.ts';
import type { MESSAGES } from './messages.ts';

/** Of one report; what is more is dropped, the oldest first. */
const MAX_FAILURES = 50;
const MAX_REASONS = 16;
/** Characters of a failure's detail. */
const MAX_DETAIL = 512;

/** A report within the bounds of its message. */
export const healthBody = (health: HealthReport): z.input<(typeof MESSAGES)['health']> => {
  const { failures, healthy_nodes: nodes, ...rest } = health;
  return {
    ...rest,
    ...(nodes === undefined ? {} : { healthy_nodes: [...nodes] }),
    ...(failures === undefined
      ? {}
      : {
          failures: failures.slice(-MAX_FAILURES).map(({ reasons, detail, ...failure }) => ({
            ...failure,
            ...(detail === undefined ? {} : { detail: detail.slice(0, MAX_DETAIL) }),
            ...(reasons === undefined
              ? {}
              : { reasons: reasons.slice(0, MAX_REASONS).map(({ code, args }) => ({ code, args })) }),
          })),
        }),
  };
};
