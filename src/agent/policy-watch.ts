import type { AuditLog } from '../audit/index.ts';
import {
  type DecisionBundle,
  decisionBundle,
  type PolicyHost,
  type RejectedBundle,
} from '../policy/index.ts';
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

/** Of an activation that was held: what it ends, counted again, and what was confirmed. */
const confirmedData = (host: PolicyHost): { would_close?: number; detail?: string } => {
  const { confirmed } = host.status();
  if (confirmed?.counted === undefined) return {};
  const { counted, held } = confirmed;
  const heldAt = new Date(held.atMs).toISOString();
  return {
    would_close: counted.wouldClose,
    detail:
      `${String(counted.wouldClose)} of ${String(counted.live)} live streams; ` +
      `${String(held.wouldClose)} of ${String(held.live)} when it was held, ${heldAt}`,
  };
};

/**
 * Records which bundle decides, now and at every change, and what was refused or fails. While none decides, the
 * file is tried again: a bundle that was refused on a machine too busy to run its vectors is good a minute later. So is
 * a grants file that was refused.
 * Returns the way to stop trying.
 */
export const watchPolicy = ({ host, clock, audit, subject, onChange }: PolicyWatch): (() => void) => {
  const backoff = new Backoff();
  let timer: Timer | undefined;
  /** What was refused last, by its file; '' is the bundle. */
  const refused = new Map<string, string>();
  const tryAgain = (): void => {
    timer?.cancel();
    if (host.active !== undefined && host.status().grantsRejected === undefined) return;
    timer = clock.after(backoff.nextDelayMs(), () => void host.reload().then(tryAgain)).unref();
  };
  let last: DecisionBundle | undefined;
  const note = (reason: 'start' | 'activated' | 'source_restored'): void => {
    if (host.status().grantsRejected === undefined) refused.clear();
    else refused.delete('');
    const { active } = host;
    if (active === undefined) return;
    const bundle = decisionBundle(active);
    const { signedBy, generation } = active;
    const data = {
      bundle,
      ...(last === undefined ? {} : { previous: last }),
      ...(signedBy === undefined ? {} : { signed_by: signedBy }),
      generation,
      source: host.sourceName,
      reason,
      ...(reason === 'activated' ? confirmedData(host) : {}),
    };
    last = bundle;
    audit.note({ type: 'bundle.activated', subject, data });
  };
  const noteRejected = ({ sha256, code, message, file }: RejectedBundle): void => {
    // The same refusal of the same bytes is no news.
    const refusal = `${sha256 ?? ''} ${message}`;
    if (refused.get(file ?? '') === refusal) return;
    refused.set(file ?? '', refusal);
    audit.note({
      type: 'bundle.rejected',
      subject,
      data: { reason: code, detail: message, source: file ?? host.sourceName },
    });
    // Whoever was removed must not stay in because the machine was too busy for the check.
    if (file !== undefined) tryAgain();
  };
  note('start');
  // What was refused while the host was opened: nobody listened then.
  const { rejected, grantsRejected } = host.status();
  for (const one of [rejected, grantsRejected]) if (one !== undefined) noteRejected(one);
  tryAgain();
  host.onActivated(() => {
    note('activated');
    onChange();
  });
  host.onRestored(() => note('source_restored'));
  host.onRejected(noteRejected);
  host.onHeld(({ id, sha256, revision, sequence, signedBy, grantsSha256, wouldClose, live }) =>
    audit.note({
      type: 'bundle.held',
      subject,
      data: {
        bundle: {
          sha256,
          revision,
          sequence,
          ...(grantsSha256 === undefined ? {} : { grants_sha256: grantsSha256 }),
        },
        ...(last === undefined ? {} : { previous: last }),
        ...(signedBy === undefined ? {} : { signed_by: signedBy }),
        source: host.sourceName,
        reason: 'max_close',
        would_close: wouldClose,
        detail: `${String(wouldClose)} of ${String(live)} live streams; confirm ${id}`,
      },
    }),
  );
  host.onWithdrawn(({ message }) => {
    const data = { code: 'bundle_untrusted', detail: message, count: 1 };
    audit.note({ type: 'policy.error', subject, data });
    onChange();
    tryAgain();
  });
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
