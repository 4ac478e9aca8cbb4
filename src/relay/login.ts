import { createHash, timingSafeEqual } from 'node:crypto';
import type { VerifiedCredential } from '../control/index.ts';
import type { ControlChannel, PartyKey, Side } from '../protocol/index.ts';
import type { Clock, Timer } from '../runtime/index.ts';

/** How long a login without its control link is kept for its instance. */
export const LOGIN_KEPT_MS = 60_000;
/** How long what an agent said of healthy nodes is believed. */
export const HEARD_NODES_MS = 30_000;
/** Ended credentials of one login that are remembered, to say why they count no more. */
const MAX_ENDED = 16;

/** One attached credential. Links hold it too, so that it outlives its login until it expires. */
export interface HeldCredential {
  /** Name on its login. */
  readonly cred: string;
  readonly handle: string;
  verified: VerifiedCredential;
  /** Set when it was revoked, removed or ran out: nothing new may be bound to it. */
  endedBecause: string | undefined;
  expiry: Timer | undefined;
}

export interface Publication {
  readonly credential: HeldCredential;
  readonly spki: string;
}

export interface LoginFacts {
  readonly id: string;
  readonly role: Side;
  readonly name: string;
  readonly instance: string;
  readonly instanceSecret: string;
  readonly build: string;
  /** Observed address; undefined when a trusted proxy hid it. */
  readonly address: string | undefined;
  readonly openedMs: number;
  readonly bundleSha256: string | undefined;
}

const digest = (secret: string): Buffer => createHash('sha256').update(secret).digest();

/** What a credential is to policy and audit. */
export const partyKeyOf = (credential: VerifiedCredential): PartyKey => ({
  kind: credential.kind,
  id: credential.key_id,
  principal: credential.principal,
  auth_rule: credential.auth_rule,
  slot: credential.slot,
  claims: [...credential.claims],
  proved_by: 'relay',
});

/** The relay's side of one process's login. */
export class Login {
  readonly id: string;
  readonly role: Side;
  readonly name: string;
  readonly instance: string;
  readonly build: string;
  readonly address: string | undefined;
  readonly openedMs: number;
  readonly credentials = new Map<string, HeldCredential>();
  /** Connections that this agent serves. */
  readonly published = new Map<string, Publication>();
  bundleSha256: string | undefined;
  bundleSequence: number | undefined;
  /** Streams over every node, as the process last said. */
  streams = 0;
  /** Links of this login in any state but closed, and those of them that are not joined yet. */
  linkCount = 0;
  handshakeCount = 0;
  /** Undefined while the control link is lost. */
  channel: ControlChannel | undefined;
  /** By name, oldest first. */
  readonly #ended = new Map<string, HeldCredential>();
  readonly #secretDigest: Buffer;
  readonly #clock: Clock;
  #healthyNodes: readonly string[] = [];
  #healthyHeardMs = Number.NEGATIVE_INFINITY;
  #nextCred = 1;

  constructor(facts: LoginFacts, channel: ControlChannel, clock: Clock) {
    this.id = facts.id;
    this.role = facts.role;
    this.name = facts.name;
    this.instance = facts.instance;
    this.build = facts.build;
    this.address = facts.address;
    this.openedMs = facts.openedMs;
    this.bundleSha256 = facts.bundleSha256;
    this.channel = channel;
    this.#secretDigest = digest(facts.instanceSecret);
    this.#clock = clock;
  }

  /** True for a login of the same process run: role, name, instance and its secret agree. */
  isSameInstance(other: { role: Side; name: string; instance: string; instanceSecret: string }): boolean {
    return this.claimsInstance(other) && timingSafeEqual(this.#secretDigest, digest(other.instanceSecret));
  }

  /** True when role, name and instance agree, whatever the secret. */
  claimsInstance(other: { role: Side; name: string; instance: string }): boolean {
    return this.role === other.role && this.name === other.name && this.instance === other.instance;
  }

  /** The next unused credential name. */
  nextCredName(): string {
    const cred = `c${this.#nextCred}`;
    this.#nextCred += 1;
    return cred;
  }

  /** The credential of that name while something may be bound to it. */
  usable(cred: string): HeldCredential | undefined {
    const held = this.credentials.get(cred);
    return held?.endedBecause === undefined ? held : undefined;
  }

  /** Remembers a credential that was taken off. */
  noteEnded(held: HeldCredential): void {
    this.#ended.set(held.cred, held);
    const [oldest] = this.#ended.keys();
    if (this.#ended.size > MAX_ENDED && oldest !== undefined) this.#ended.delete(oldest);
  }

  /** The credential of that name that has ended lately. */
  ended(cred: string): HeldCredential | undefined {
    const held = this.credentials.get(cred) ?? this.#ended.get(cred);
    return held?.endedBecause === undefined ? undefined : held;
  }

  /** What this process holds for a connection, or held last: whose key stands behind what it says of it. */
  verifiedFor(connection: string): VerifiedCredential | undefined {
    const held = [...this.#ended.values(), ...this.credentials.values()];
    return held.findLast(({ verified }) => verified.connection === connection)?.verified;
  }

  /** Notes which nodes this process hears healthy. */
  heardHealthy(nodes: readonly string[]): void {
    this.#healthyNodes = nodes;
    this.#healthyHeardMs = this.#clock.monotonicMs();
  }

  /** Whether this process has lately heard any node but `node` to be healthy. */
  hearsHealthyNodeBesides(node: string): boolean {
    if (this.#clock.monotonicMs() - this.#healthyHeardMs > HEARD_NODES_MS) return false;
    return this.#healthyNodes.some((healthy) => healthy !== node);
  }
}
