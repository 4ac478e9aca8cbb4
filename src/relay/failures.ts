import type { StreamFailure } from '../control/index.ts';
import type { Payload } from '../protocol/index.ts';
import { isCloseReason } from '../runtime/index.ts';
import type { Login } from './login.ts';

/** Failures kept of one connection, and connections that failures are kept of. */
export const MAX_FAILURES = 20;
const MAX_CONNECTIONS = 4_096;

type Reported = NonNullable<Payload<'health'>['failures']>[number];

/** The last failures of each connection, as both ends and this node tell them, one per stream. */
export class Failures {
  readonly #byConnection = new Map<string, StreamFailure[]>();

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

  /** Newest first. */
  last(connection: string): readonly StreamFailure[] {
    return this.#list(connection);
  }

  #list(connection: string): StreamFailure[] {
    return this.#byConnection.get(connection) ?? [];
  }

  #put(connection: string, failure: StreamFailure): void {
    const others = this.#list(connection).filter(
      ({ stream_id }) => stream_id === null || stream_id !== failure.stream_id,
    );
    this.#byConnection.delete(connection);
    if (this.#byConnection.size >= MAX_CONNECTIONS) {
      const oldest = this.#byConnection.keys().next();
      if (oldest.done !== true) this.#byConnection.delete(oldest.value);
    }
    this.#byConnection.set(connection, [failure, ...others].slice(0, MAX_FAILURES));
  }
}

const principalOf = (login: Login, connection: string): string | null =>
  login.role === 'gateway' ? (login.verifiedFor(connection)?.principal ?? null) : null;

/** The longer of two descriptions: an agent knows more than a gateway. */
const pick = (first: string | undefined, second: string | undefined): string | undefined =>
  (second?.length ?? 0) >= (first?.length ?? 0) ? second : first;
