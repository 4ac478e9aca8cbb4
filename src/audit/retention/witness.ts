import type { Clock, Logger } from '../../runtime/index.ts';
import type { AuditEventInput } from '../event/event.ts';
import { loadTrust } from '../seal/trust.ts';
import type { Look } from '../witness.ts';
import { operatorOf, readRequest, requestHash, type SignedRequest } from './request.ts';

/** A request signed later than this from now is not recorded; verifiers allow as much. */
export const MAX_AHEAD_MS = 5 * 60_000;
/** Nor one signed longer ago. */
const MAX_AGE_MS = 24 * 3_600_000;

export interface RetentionLookOptions {
  /** Read again at each request. */
  readonly trustFile: string;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly record: (event: AuditEventInput) => Promise<unknown>;
}

const refusalOf = (nowMs: number, { request }: SignedRequest): string | undefined => {
  const signedMs = Date.parse(request.time);
  if (signedMs > nowMs + MAX_AHEAD_MS) return `it was signed at ${request.time}, which is yet to come`;
  return signedMs < nowMs - MAX_AGE_MS ? `it was signed at ${request.time}, a day ago or more` : undefined;
};

/**
 * Operators' requests to remove partitions: those that hold are recorded as `audit.retained`, one at a look, before
 * anything is removed.
 */
export const retentionLook = ({ trustFile, clock, logger, record }: RetentionLookOptions): Look => ({
  name: 'requests for retention',
  run: async (client, refuse) => {
    const { rows } = await client.query<{ request: string; signature: Buffer }>(
      'select request, signature from audit.next_retention()',
    );
    const [found] = rows;
    if (found === undefined) return;
    const request = readRequest(found.request);
    if (request === undefined) {
      refuse('it has no such form');
      return;
    }
    const whole: SignedRequest = { request, text: found.request, signature: found.signature };
    const checked = operatorOf(loadTrust(trustFile), whole);
    const problem = 'problem' in checked ? checked.problem : refusalOf(clock.nowMs(), whole);
    if ('problem' in checked || problem !== undefined) {
      refuse(`${request.id}: ${problem ?? ''}`);
      return;
    }
    await record({
      type: 'audit.retained',
      subject: { actor: checked.operator.name },
      data: {
        partitions: request.days.flatMap((day) => [`event_${day}`, `seal_leaves_${day}`]),
        before: request.before,
        request_sha256: requestHash(whole.text),
      },
    });
    logger.info(
      { request: request.id, operator: checked.operator.name },
      'a request for retention was recorded',
    );
  },
});
