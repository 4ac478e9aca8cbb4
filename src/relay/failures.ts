import type { StreamFailure } from '../control/index.ts';
import type { Payload, Side } from '../protocol/index.ts';
import { type Clock, isCloseReason } from '../runtime/index.ts';
import type { Login } from './login.ts';

/** Failures kept of one connection, and connections that failures are kept of. */
export const MAX_FAILURES = 20;
const MAX_CONNECTIONS = 4_096;
/** Refused logins kept of one connection. Anybody may cause one: they take no room of the others. */
export const MAX_LOGIN_REFUSALS = 5;

/** A credential that this node refused; only `connection`, `role` and `claimedKeyName` are words of whoever showed it. */
export interface RefusedLogin {
  readonly connection: string;
  readonly role: Side;
  readonly claimedKeyName: string | undefined;
  readonly address: string | undefined;
  readonly code: string;
  readonly detail: string;
}

type Reported = NonNullable<Payload<'health'>['failures']>[number];

/** The last failures of each connection, as both ends and this node tell them, one per stream. */
export class Failures {
  readonly #byConnection = new Map<string, StreamFailure[]>();
  readonly #logins = new Map<string, StreamFailure[]>();

  /** What an end reported; the two ends of a stream complete each other. */
  report(login: Login, reported: Reported): void {
    const { stream_id, reason, at, decision_id, detail, reasons } = reported;
    const known = this.#list(reported.connection).find((failure) => failure.stream_id === stream_id);
    const side = { [login.role]: login.name };
    this.#put(reported.connection, {
      at: known?.at ?? at,
      connection: reported.connection,
      stage: 'stream',
      code: isCloseReason(reason) ? reason : 'internal',
      detail: pick(known?.detail, detail) ?? reason.replaceAll('_', ' '),
      stream_id,
      decision_id: decision_id ?? known?.decision_id ?? null,
      // Ends do not name it; the gateway's key for the connection is the one that its streams stand for.
      principal: known?.principal ?? principalOf(login, reported.connection),
      gateway: known?.gateway ?? null,
      agent: known?.agent ?? null,
      ...side,
      reasons: reasons?.map(({ code }) => code) ?? known?.reasons ?? [],
    });
  }

  /** What this node itself refused. */
  add(failure: StreamFailure): void {
    this.#put(failure.connection, failure);
  }

  /** The same refusal again takes the place of the one before. */
  addLogin(refused: RefusedLogin, clock: Pick<Clock, 'nowMs'>): void {
    const { connection, role, claimedKeyName, address, code, detail } = refused;
    const claim = claimedKeyName === undefined ? '' : `, which names the auth-rule ${claimedKeyName}`;
    const failure: StreamFailure = {
      at: new Date(clock.nowMs()).toISOString(),
      connection,
      stage: 'login',
      code: isCloseReason(code) ? code : 'not_authorized',
      detail: `${detail} (${code}; ${role} at ${address ?? 'an unknown address'}${claim})`,
      stream_id: null,
      decision_id: null,
      principal: null,
      gateway: null,
      agent: null,
      reasons: [],
    };
    const others = (this.#logins.get(connection) ?? []).filter((one) => one.detail !== failure.detail);
    putNewest(this.#logins, connection, [failure, ...others].slice(0, MAX_LOGIN_REFUSALS));
  }

  /** Newest first. */
  last(connection: string): readonly StreamFailure[] {
    const logins = this.#logins.get(connection);
    if (logins === undefined) return this.#list(connection);
    return [...logins, ...this.#list(connection)].sort(
      (left, right) => Date.parse(right.at) - Date.parse(left.at),
    );
  }

  #list(connection: string): StreamFailure[] {
    return this.#byConnection.get(connection) ?? [];
  }

  #put(connection: string, failure: StreamFailure): void {
    const others = this.#list(connection).filter(
      ({ stream_id }) => stream_id === null || stream_id !== failure.stream_id,
    );
    putNewest(this.#byConnection, connection, [failure, ...others].slice(0, MAX_FAILURES));
  }
}

/** The connection whose failures are oldest makes room. */
const putNewest = (map: Map<string, StreamFailure[]>, connection: string, list: StreamFailure[]): void => {
  map.delete(connection);
  if (map.size >= MAX_CONNECTIONS) {
    const oldest = map.keys().next();
    if (oldest.done !== true) map.delete(oldest.value);
  }
  map.set(connection, list);
};

const principalOf = (login: Login, connection: string): string | null =>
  login.role === 'gateway' ? (login.verifiedFor(connection)?.principal ?? null) : null;

/** The longer of two descriptions: an agent knows more than a gateway. */
const pick = (first: string | undefined, second: string | undefined): string | undefined =>
  (second?.length ?? 0) >= (first?.length ?? 0) ? second : first;
