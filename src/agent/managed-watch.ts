import type { AuditLog } from '../audit/index.ts';
import type { Decision, ManagedChange, ManagedHost, ManagedSettings } from '../policy/index.ts';
import type { CloseReason, Logger } from '../runtime/index.ts';
import { recheckEvent } from './events.ts';
import type { AgentLink } from './agent-link.ts';
import type { LiveStream, LiveStreams } from './live-streams.ts';

/** What managed settings act upon when they change. */
export interface ManagedWatch {
  readonly managed: ManagedHost;
  readonly audit: Pick<AuditLog, 'note'>;
  readonly logger: Logger;
  readonly subject: { readonly namespace: string; readonly agent: string };
  readonly streams: LiveStreams;
  readonly links: () => readonly AgentLink[];
  readonly denial: (stream: LiveStream) => Decision | undefined;
  /** Logins at nodes that may be dialled no more end, others begin. */
  readonly governLogins: () => void;
  /** Publications and streams are decided again. */
  readonly onChange: () => void;
}

/** What the trail says of settings on either side of a change. */
const side = (settings: ManagedSettings): object => ({ state: settings.kind, ...settings.summary() });

const cutReason = ({ reason }: Decision): CloseReason => reason ?? 'managed_denied';

/**
 * Records which managed settings hold, now and at every change, and what was refused. A change ends in its own tick the
 * live streams, data links and logins that it does not allow.
 */
export const watchManaged = (deps: ManagedWatch): void => {
  const { managed, audit, subject, streams, logger } = deps;
  const noteRefused = ({ message }: { readonly message: string }): void =>
    audit.note({
      type: 'managed.refused',
      subject,
      data: {
        reason: message,
        ...(managed.settings.sha256 === undefined ? {} : { managed_sha256: managed.settings.sha256 }),
      },
    });
  const noteChanged = (after: ManagedSettings, before: ManagedSettings | undefined): void =>
    audit.note({
      type: 'managed.changed',
      subject,
      data: {
        ...(after.sha256 === undefined ? {} : { managed_sha256: after.sha256 }),
        ...(before === undefined ? {} : { before: side(before) }),
        after: side(after),
      },
    });
  const enforce = ({ before, after }: ManagedChange): void => {
    noteChanged(after, before);
    let cut = 0;
    for (const stream of [...streams]) {
      const decision = deps.denial(stream);
      if (decision === undefined) continue;
      audit.note(recheckEvent(stream, decision));
      stream.cut(cutReason(decision), decision.reasons.map(({ args }) => String(args.detail)).join(', '));
      cut += 1;
    }
    // Before the links end, so that nodes offer nothing here any more when gateways ask for others.
    deps.governLogins();
    const links = deps.links().filter((link) => after.barsRelay(link.node) !== undefined);
    for (const link of links) link.cut('managed_denied');
    if (cut + links.length > 0) {
      logger.warn({ streams: cut, links: links.length }, 'managed settings ended what they do not allow');
    }
    deps.onChange();
  };
  const { refused } = managed.status();
  if (refused !== undefined) noteRefused(refused);
  if (managed.settings.kind !== 'absent') noteChanged(managed.settings, undefined);
  managed.onRefused(noteRefused);
  managed.onChanged(enforce);
};
