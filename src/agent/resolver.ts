import { lookup } from 'node:dns/promises';
import { isIP } from 'node:net';
import { type Clock, foreignCodeOf, isNameAddress, messageOf } from '../runtime/index.ts';
import { normalizeAddress } from '../policy/index.ts';
import { askDns, dnsSettings } from './dns-past-hosts.ts';

/** An answer is used for at most this long; its age stands in the event. */
export const ANSWER_KEPT_MS = 5_000;
/** Candidate addresses of one name, in the resolver's order (policy.md, Input v1). */
export const MAX_ADDRESSES = 8;
/** Names kept; the targets of one agent's connections are far fewer. */
const MAX_NAMES = 4_096;

export type Resolution =
  | { readonly ok: true; readonly addresses: readonly string[]; readonly ageMs: number }
  | { readonly ok: false; readonly detail: string };

/** Asks the system for a name's addresses; throws as `node:dns` does. */
export type Lookup = (host: string) => Promise<readonly string[]>;

/**
 * The host's own resolver (getaddrinfo), answers in its order. Where the hosts file has the name for a gateway on this
 * machine, DNS is asked past it; what DNS does not know stays with the gateway's address, which the guard refuses as
 * `loop`.
 */
export const systemLookup: Lookup = async (host) => {
  const answers = await lookup(host, { all: true, verbatim: true });
  const addresses = answers.map((answer) => answer.address);
  const real = addresses.filter((address) => !isNameAddress(address));
  if (real.length > 0 || addresses.length === 0) return real;
  const found = await askDns(host, dnsSettings());
  return found.length > 0 ? found : addresses.filter((address) => isIP(address) === 4);
};

interface Answer {
  readonly addresses: readonly string[];
  readonly atMs: number;
}

/** Resolves targets: one look-up in flight per name, answers kept up to 5 s, at most 8 normalised addresses. */
export class Resolver {
  readonly #clock: Clock;
  readonly #lookup: Lookup;
  readonly #answers = new Map<string, Answer>();
  readonly #asking = new Map<string, Promise<Resolution>>();

  constructor(clock: Clock, ask: Lookup = systemLookup) {
    this.#clock = clock;
    this.#lookup = ask;
  }

  /** What is known without asking anybody: address literals and answers young enough. */
  known(host: string): Resolution | undefined {
    if (isIP(host) !== 0) return { ok: true, addresses: [normalizeAddress(host)], ageMs: 0 };
    const answer = this.#answers.get(host);
    if (answer === undefined) return undefined;
    const ageMs = this.#clock.monotonicMs() - answer.atMs;
    if (ageMs > ANSWER_KEPT_MS) {
      this.#answers.delete(host);
      return undefined;
    }
    return { ok: true, addresses: answer.addresses, ageMs: Math.round(ageMs) };
  }

  /** Never rejects: a name without an answer is `ok: false`. */
  resolve(host: string): Promise<Resolution> {
    const known = this.known(host);
    if (known !== undefined) return Promise.resolve(known);
    let asking = this.#asking.get(host);
    if (asking === undefined) {
      asking = this.#ask(host).finally(() => this.#asking.delete(host));
      this.#asking.set(host, asking);
    }
    return asking;
  }

  async #ask(host: string): Promise<Resolution> {
    let found: readonly string[];
    try {
      found = await this.#lookup(host);
    } catch (error) {
      return { ok: false, detail: foreignCodeOf(error) ?? messageOf(error) };
    }
    const addresses = [...new Set(found.map(normalizeAddress))].slice(0, MAX_ADDRESSES);
    if (addresses.length === 0) return { ok: false, detail: 'no address' };
    const oldest = this.#answers.keys().next().value;
    if (this.#answers.size >= MAX_NAMES && oldest !== undefined) this.#answers.delete(oldest);
    this.#answers.set(host, { addresses, atMs: this.#clock.monotonicMs() });
    return { ok: true, addresses, ageMs: 0 };
  }
}
