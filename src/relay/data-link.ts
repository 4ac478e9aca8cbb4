import type { LinkStanding } from '../identity/index.ts';
import {
  advance,
  type CarrierKind,
  OFFERED,
  type PartyKey,
  type RendezvousEvent,
  type RendezvousState,
  type Side,
  WebSocketCarrier,
} from '../protocol/index.ts';
import { type CloseReason, resetSocket, type ResettableStream } from '../runtime/index.ts';
import type { JoinCarriers, LinkPipe, PipeEnd } from './link-pipe.ts';
import { type HeldCredential, type Login, partyKeyOf } from './login.ts';

/** Of a link whose two carriers are not here yet. */
export const UNKNOWN_CARRIER = 'unknown';

/** One side of a link: whose, with which credential. */
export interface LinkParty {
  /** Replaced when the same instance logs in anew. */
  login: Login;
  credential: HeldCredential;
  readonly spki: string;
}

export interface LinkFacts {
  readonly id: string;
  readonly connection: string;
  readonly connectionId: string;
  readonly gateway: LinkParty;
  readonly agent: LinkParty;
  /** Wall clock and monotonic time of the offer. */
  readonly offeredMs: number;
  readonly monotonicMs: number;
}

/** What the relay does at the turns of a link's life. */
export interface LinkEvents {
  readonly join: JoinCarriers;
  onJoined(link: DataLink): void;
  /**
   * Once, in the tick that ends it; `wasJoined` tells a link from a rendezvous that failed. `settled` resolves when no
   * byte of it moves any more and its counts are final; undefined: they are.
   */
  onClosed(link: DataLink, reason: CloseReason, wasJoined: boolean, settled: Promise<void> | undefined): void;
}

interface Waiting {
  readonly socket: ResettableStream;
  readonly head: Buffer;
}

const reasonOf = (end: PipeEnd): CloseReason => {
  switch (end.kind) {
    case 'ended':
    case 'broken':
      return end.side === 'agent' ? 'agent_lost' : 'gateway_lost';
    case 'silent':
    case 'stuck':
    case 'lost':
      return 'link_lost';
    case 'cut':
      return 'internal';
  }
};

/** One rendezvous and, once both carriers are here, the pipe between them. */
export class DataLink {
  readonly id: string;
  readonly connection: string;
  readonly connectionId: string;
  readonly gateway: LinkParty;
  readonly agent: LinkParty;
  readonly offeredMs: number;
  readonly sender: PartyKey;
  readonly listener: PartyKey;
  /** Monotonic time of the offer, then of the joining. */
  sinceMs: number;
  readonly #events: LinkEvents;
  #state: RendezvousState = OFFERED;
  #waiting: Waiting | undefined;
  #pipe: LinkPipe | undefined;
  readonly #carriers: Partial<Record<Side, CarrierKind>> = {};

  constructor(facts: LinkFacts, events: LinkEvents) {
    this.id = facts.id;
    this.connection = facts.connection;
    this.connectionId = facts.connectionId;
    this.gateway = facts.gateway;
    this.agent = facts.agent;
    this.offeredMs = facts.offeredMs;
    this.sinceMs = facts.monotonicMs;
    this.sender = partyKeyOf(facts.gateway.credential.verified);
    this.listener = partyKeyOf(facts.agent.credential.verified);
    this.#events = events;
  }

  get state(): RendezvousState['kind'] {
    return this.#state.kind;
  }

  /** How the sides' bytes come: the one word of both, or `GATEWAY/AGENT`; undefined while one is not here. */
  get carrier(): string | undefined {
    const { gateway, agent } = this.#carriers;
    if (gateway === undefined || agent === undefined) return undefined;
    return gateway === agent ? gateway : `${gateway}/${agent}`;
  }

  get bytesUp(): number {
    return this.#pipe?.bytesUp ?? 0;
  }

  get bytesDown(): number {
    return this.#pipe?.bytesDown ?? 0;
  }

  get waitingBytes(): number {
    return this.#pipe?.waitingBytes ?? 0;
  }

  /** What it ends with. */
  get standing(): LinkStanding {
    const { name, instance } = this.agent.login;
    return {
      keyIds: [this.sender.id, this.listener.id],
      agent: name,
      instance,
      connectionId: this.connectionId,
    };
  }

  party(side: Side): LinkParty {
    return side === 'gateway' ? this.gateway : this.agent;
  }

  /**
   * A side's carrier is here. The caller has checked revocation and fence in this same tick.
   *
   * @param head what was read of it and is to be forwarded first; owned by the link from now on
   */
  arrive(side: Side, socket: ResettableStream, head: Buffer, nowMs: number): void {
    const before = this.#state;
    this.#carriers[side] = socket instanceof WebSocketCarrier ? 'websocket' : 'tcp';
    this.#step({ kind: 'arrived', side });
    if (this.state === 'half') {
      this.#waiting = { socket, head };
      socket.once('close', () => {
        if (this.state === 'half') this.#close({ kind: 'left', side });
      });
      return;
    }
    const first = this.#waiting;
    if (this.state !== 'joined' || before.kind !== 'half' || first === undefined) {
      resetSocket(socket);
      if (before.kind !== 'closed') this.#finish(before);
      return;
    }
    this.#waiting = undefined;
    this.sinceMs = nowMs;
    const second = { socket, head };
    const [gateway, agent] = side === 'agent' ? [first, second] : [second, first];
    const pipe = this.#events.join(gateway.socket, agent.socket, nowMs, (end) => this.#pipeEnded(end));
    this.#pipe = pipe;
    this.#events.onJoined(this);
    pipe.start(gateway.head, agent.head);
  }

  /** The offer's life is over. */
  expire(): void {
    if (this.state === 'offered' || this.state === 'half') this.#close({ kind: 'deadline' });
  }

  /**
   * A side said that it cannot come. A joined link ends by its carriers.
   *
   * @param reason what that side gave as the reason; the other side and the trail are told
   */
  fail(side: Side, reason?: CloseReason): void {
    if (this.state !== 'offered' && this.state !== 'half') return;
    this.#close({ kind: 'left', side, ...(reason === undefined ? {} : { reason }) });
  }

  /** Stops both carriers and resets them, now, whatever the state. */
  cut(reason: CloseReason): void {
    this.#close({ kind: 'cut', reason });
  }

  tick(nowMs: number): void {
    this.#pipe?.tick(nowMs);
  }

  #step(event: RendezvousEvent): void {
    this.#state = advance(this.#state, event);
  }

  #close(event: RendezvousEvent): void {
    const before = this.#state;
    if (before.kind === 'closed') return;
    this.#step(event);
    this.#finish(before);
  }

  #finish(before: RendezvousState): void {
    if (this.#state.kind !== 'closed') return;
    if (this.#waiting !== undefined) resetSocket(this.#waiting.socket);
    this.#waiting = undefined;
    const settled = this.#pipe?.cut();
    this.#events.onClosed(this, this.#state.reason, before.kind === 'joined', settled);
  }

  #pipeEnded(end: PipeEnd): void {
    if (this.#state.kind !== 'joined') return;
    if (end.kind === 'ended' || end.kind === 'broken') this.#close({ kind: 'left', side: end.side });
    else this.#close({ kind: 'cut', reason: reasonOf(end) });
  }
}
