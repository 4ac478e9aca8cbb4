import type { AuditLog } from '../audit/index.ts';
import type { DecisionBundle, PolicyHost } from '../policy/index.ts';
import { Backoff, type Clock, type Timer } from '../runtime/index.ts';

const SECOND_MS = 1_000;

export interface PolicyWatch {
  readonly host: PolicyHost;
  readonly clock: Clock;
  readonly audit: Pick<AuditLog, 'note'>;
  readonly subject: { readonly namespace: string; readonly agent: string };
  /** Another bundle or other data decides from now on. */
  readonly onChange: () => void;
}

/**
 * Records which bundle decides, now and at every change, and what was refused or fails. While none decides, the
 * file is tried again: a bundle that was refused on a machine too busy to run its vectors is good a minute later.
 * Returns the way to stop trying.
 */
export const watchPolicy = ({ host, clock, audit, subject, onChange }: PolicyWatch): (() => void) => {
  const backoff = new Backoff();
  let timer: Timer | undefined;
  let refused = '';
  const tryAgain = (): void => {
    if (host.active !== undefined) return;
    timer = clock.after(backoff.nextDelayMs(), () => void host.reload().then(tryAgain)).unref();
  };
  let last: DecisionBundle | undefined;
  const note = (): void => {
    const { active } = host;
    if (active === undefined) return;
    const bundle = { sha256: active.sha256, revision: active.revision, sequence: active.sequence };
    const data = { bundle, ...(last === undefined ? {} : { previous: last }) };
    last = bundle;
    audit.note({ type: 'bundle.activated', subject, data });
  };
  note();
  tryAgain();
  host.onActivated(() => {
    refused = '';
    note();
    onChange();
  });
  host.onRejected(({ code, message }) => {
    // The same refusal again is no news.
    if (refused === message) return;
    refused = message;
    audit.note({ type: 'bundle.rejected', subject, data: { reason: code, detail: message } });
  });
  host.onHeld(({ id, sha256, revision, sequence, wouldClose, live }) =>
    audit.note({
      type: 'bundle.held',
      subject,
      data: {
        bundle: { sha256, revision, sequence },
        ...(last === undefined ? {} : { previous: last }),
        reason: 'max_close',
        would_close: wouldClose,
        detail: `${String(wouldClose)} of ${String(live)} live streams; confirm ${id}`,
      },
    }),
  );
  host.onFreshness(({ isStale, ageMs, maxAgeMs }) => {
    if (isStale) {
      const age = ageMs === undefined ? 'ever' : `${String(Math.floor(ageMs / SECOND_MS))} s`;
      const detail = `the source of the bundle is silent for ${age}, the limit is ${String((maxAgeMs ?? 0) / SECOND_MS)} s`;
      audit.note({ type: 'policy.error', subject, data: { code: 'bundle_stale', detail, count: 1 } });
    }
    onChange();
  });
  host.onAlarm(({ kind, failures }) =>
    audit.note({
      type: 'policy.error',
      subject,
      data: { code: 'repeated_failures', detail: kind, count: failures },
    }),
  );
  return () => timer?.cancel();
};
