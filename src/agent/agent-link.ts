import type { AuditLog, Subject } from '../audit/index.ts';
import type { PolicyInputBase, PolicyKey, PolicySource } from '../policy/index.ts';
import { normalizeAddress } from '../policy/index.ts';
import {
  type AuthenticatedPeer,
  type CarrierKind,
  type IncomingOpen,
  type LinkOffer,
  type PartyKey,
  type RecentIdSet,
  Session,
  type SessionStats,
} from '../protocol/index.ts';
import { type Clock, type CloseReason, isCloseReason, type TimerWheel } from '../runtime/index.ts';
import type { LinkInput, StreamLink } from './stream-link.ts';

/** How long the relay's word on why a link ended is waited for (protocol.md, Revocation on the pipe). */
export const END_NOTICE_MS = 1_000;

/** Notices after which nothing may move any more; others let what is under way arrive. */
const FORCED_ENDS: ReadonlySet<CloseReason> = new Set<CloseReason>([
  'key_revoked',
  'key_rotated',
  'token_expired',
  'identity_revoked',
  'identity_expired',
  'auth_rule_removed',
  'connection_removed',
  'not_authorized',
  'admin_closed',
  'node_fenced',
]);

/** What a link asks of the agent around it. */
export interface AgentLinkDeps {
  readonly namespace: string;
  readonly agent: PolicyInputBase['agent'];
  readonly labels: Readonly<Record<string, string>>;
  readonly clock: Clock;
  readonly wheel: TimerWheel;
  readonly audit: Pick<AuditLog, 'note'>;
  readonly recentIds: RecentIdSet;
  open(incoming: IncomingOpen, link: StreamLink): void;
  /** The target as published at the link's node under the link's listener credential; undefined when not. */
  target(link: AgentLink): { readonly host: string; readonly port: number } | undefined;
  /** Why the link may carry nothing any more: what it stands on is revoked, its node is not allowed; undefined when it may. */
  forbidden(offer: LinkOffer): CloseReason | undefined;
  onEnd(link: AgentLink): void;
}

const policyKey = (key: PartyKey): PolicyKey => ({
  kind: key.kind,
  id: key.id,
  principal: key.principal,
  auth_rule: key.auth_rule,
  slot: key.slot,
  claims: key.claims,
  proved_by: key.proved_by,
});

const addressOrNothing = (text: string | undefined): { address?: string } => {
  if (text === undefined) return {};
  try {
    return { address: normalizeAddress(text) };
  } catch {
    // The relay says something that is no address: policy sees none.
    return {};
  }
};

/** One live data link of the agent, from the authenticated peer to the recorded end. */
export class AgentLink implements StreamLink {
  readonly id: string;
  readonly node: string;
  readonly offer: LinkOffer;
  readonly input: LinkInput;
  readonly source: PolicySource;
  readonly subject: Subject;
  readonly slotPrincipal: string;
  readonly #peer: AuthenticatedPeer;
  readonly #deps: AgentLinkDeps;
  readonly #session: Session;
  readonly #openedMs: number;
  #endReason: CloseReason | undefined;
  #isEnded = false;
  #isRecorded = false;
  #waiting: ((reason: CloseReason) => void)[] = [];
  #onRecorded: (() => void) | undefined;
  #streamsTaken = 0;

  constructor(peer: AuthenticatedPeer, deps: AgentLinkDeps) {
    const { offer } = peer;
    this.#peer = peer;
    this.#deps = deps;
    this.id = offer.link_id;
    this.node = offer.node;
    this.offer = offer;
    this.input = {
      namespace: deps.namespace,
      connection: { name: offer.connection, id: offer.connection_id, labels: deps.labels },
      key: policyKey(offer.sender),
      listener: policyKey(offer.listener),
      agent: deps.agent,
      relay: { node: offer.node },
      link: { id: offer.link_id, carrier: peer.carrier },
    };
    this.source = {
      gateway: offer.gateway,
      gateway_proved: false,
      ...addressOrNothing(offer.source_address),
    };
    this.subject = {
      namespace: deps.namespace,
      agent: deps.agent.name,
      relay: offer.node,
      gateway: offer.gateway,
      connection: offer.connection,
      connection_id: offer.connection_id,
      principal: offer.sender.principal,
      auth_rule: offer.sender.auth_rule,
      key_id: offer.sender.id,
      key_slot: offer.sender.slot,
      key_kind: offer.sender.kind,
      proved_by: offer.sender.proved_by,
      listener_principal: offer.listener.principal,
      listener_key_id: offer.listener.id,
      link_id: offer.link_id,
      carrier: peer.carrier,
      ...(this.source.address === undefined ? {} : { source_addr: this.source.address }),
    };
    const { principal } = offer.sender;
    this.slotPrincipal = principal.includes('/') ? principal : `${offer.connection}/${principal}`;
    this.#openedMs = deps.clock.monotonicMs();
    deps.audit.note({
      type: 'link.opened',
      subject: this.#linkSubject(),
      data: { side: 'agent', carrier: peer.carrier, node: offer.node },
    });
    this.#session = new Session(peer, {
      clock: deps.clock,
      recentIds: deps.recentIds,
      onOpen: (incoming) => deps.open(incoming, this),
    });
    this.#session.onEnd(({ reason }) => this.#onSessionEnd(reason));
  }

  /** How its bytes come to the node, and by which port. */
  get carrier(): CarrierKind {
    return this.#peer.carrier;
  }

  get port(): number {
    return this.#peer.port;
  }

  get streamCount(): number {
    return this.#session.streamCount;
  }

  stats(): SessionStats {
    return this.#session.stats();
  }

  target(): { readonly host: string; readonly port: number } | undefined {
    return this.#deps.target(this);
  }

  barred(): CloseReason | undefined {
    if (this.#isEnded) return this.#endReason ?? 'link_lost';
    const forbidden = this.#deps.forbidden(this.offer);
    if (forbidden !== undefined) return forbidden;
    return this.target() === undefined ? 'unpublished' : undefined;
  }

  /** How many streams the link's end took down with it. */
  get streamsTaken(): number {
    return this.#streamsTaken;
  }

  /** Why it ended, as far as is known; undefined while it lives. */
  get endReason(): CloseReason | undefined {
    return this.#endReason;
  }

  /** Calls back once when the link's end has been recorded, at once when it has. */
  whenRecorded(call: () => void): void {
    if (this.#isRecorded) call();
    else this.#onRecorded = call;
  }

  whenEndKnown(call: (reason: CloseReason) => void): void {
    this.#streamsTaken += 1;
    if (this.#isRecorded) call(this.#endReason ?? 'link_lost');
    else this.#waiting.push(call);
  }

  /** Cuts every stream and the link itself in this tick. */
  cut(reason: CloseReason): void {
    this.#endReason ??= reason;
    this.#session.destroy(reason);
  }

  /** No new streams; the old ones may finish until the deadline. */
  goAway(reason: CloseReason, deadlineMs: number): void {
    this.#session.goAway(reason, deadlineMs);
  }

  /** The relay says why it ended the link: before, after or without our noticing. */
  onClosedNotice(text: string): void {
    const reason = isCloseReason(text) ? text : 'internal';
    if (this.#isRecorded) return;
    this.#endReason ??= reason;
    if (this.#isEnded) {
      this.#record();
    } else if (FORCED_ENDS.has(reason)) {
      this.#session.destroy(reason);
    } else {
      this.#deps.wheel.after(END_NOTICE_MS, () => this.#session.destroy(reason));
    }
  }

  /** Waits no longer for the relay's word: what is known now is what is recorded. */
  settle(): void {
    if (this.#isEnded) this.#record();
  }

  #onSessionEnd(reason: CloseReason): void {
    this.#isEnded = true;
    if (reason !== 'link_lost') this.#endReason ??= reason;
    this.#deps.onEnd(this);
    if (this.#endReason !== undefined) this.#record();
    // After a turn of the loop: a notice that has come while the process was busy is read first.
    else this.#deps.wheel.after(END_NOTICE_MS, () => setImmediate(() => this.#record()));
  }

  #record(): void {
    if (this.#isRecorded) return;
    this.#isRecorded = true;
    const reason = this.#endReason ?? 'link_lost';
    const bytes = this.#peer.carrierBytes();
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const call of waiting) call(reason);
    this.#onRecorded?.();
    this.#deps.audit.note({
      type: 'link.closed',
      subject: this.#linkSubject(),
      data: {
        side: 'agent',
        carrier: this.#peer.carrier,
        node: this.node,
        bytes_up: bytes.up,
        bytes_down: bytes.down,
        reason,
        duration_ms: Math.round(this.#deps.clock.monotonicMs() - this.#openedMs),
      },
    });
  }

  #linkSubject(): Subject {
    return { ...this.subject, own_spki: this.#peer.ownSpki, peer_spki: this.#peer.peerSpki };
  }
}
