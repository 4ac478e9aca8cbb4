import type { Control, VerifiedCredential } from '../control/index.ts';
import type { LinkStanding } from '../identity/index.ts';
import type { Payload, Problem, Side } from '../protocol/index.ts';
import type { CloseReason } from '../runtime/index.ts';
import type { Fence } from './fence.ts';
import type { Login } from './login.ts';
import { type LoginBook, MAX_LOGINS, MAX_LOGINS_PER_PRINCIPAL } from './login-book.ts';

const DRAINING_RETRY_S = 1;
const FENCED_RETRY_S = 5;
const FULL_RETRY_S = 10;
/** Names of agents and gateways. */
const NAME = /^[a-z0-9-]{1,63}$/;

export interface GatekeeperOptions {
  readonly namespace: string;
  readonly fence: Fence;
  readonly logins: LoginBook;
  readonly revocations: Pick<Control['revocations'], 'isRevoked' | 'isAgentRevoked' | 'isConnectionRemoved'>;
}

/** The synchronous checks of admission: to be made in the tick that registers what they admit. */
export class Gatekeeper {
  readonly #options: GatekeeperOptions;
  /** Ids of connections that were deleted while this node ran. */
  readonly #gone = new Set<string>();
  #draining = false;

  constructor(options: GatekeeperOptions) {
    this.#options = options;
  }

  /** From now on nothing is admitted. */
  drain(): void {
    this.#draining = true;
  }

  connectionGone(id: string): void {
    this.#gone.add(id);
  }

  /** Why nobody is admitted now. */
  closedBecause(): Problem | undefined {
    if (this.#draining) {
      const detail = 'node is stopping';
      return { status: 503, code: 'draining', detail, retryAfterS: DRAINING_RETRY_S };
    }
    if (!this.#options.fence.admits) {
      const detail = 'node does not hear its control database';
      return { status: 503, code: 'node_fenced', detail, retryAfterS: FENCED_RETRY_S };
    }
    return undefined;
  }

  /** Why this verified credential is not admitted now. */
  refusedNow(credential: VerifiedCredential): Problem | undefined {
    const { revocations, logins } = this.#options;
    const { key_id: keyId, connection, connection_id: connectionId, principal } = credential;
    const revocation = revocations.isRevoked(keyId);
    if (revocation !== undefined)
      return { status: 401, code: revocation.kind, detail: `key ${keyId} is revoked` };
    if (this.#gone.has(connectionId) || revocations.isConnectionRemoved(connectionId) !== undefined) {
      return { status: 404, code: 'connection_unknown', detail: `there is no connection ${connection}` };
    }
    if (logins.size >= MAX_LOGINS) {
      const detail = `node has ${MAX_LOGINS} logins`;
      return { status: 429, code: 'too_many_logins', detail, retryAfterS: FULL_RETRY_S };
    }
    if (logins.countOf(principal, connectionId) >= MAX_LOGINS_PER_PRINCIPAL) {
      const detail = `principal has ${MAX_LOGINS_PER_PRINCIPAL} logins on this node`;
      return { status: 429, code: 'too_many_logins', detail, retryAfterS: FULL_RETRY_S };
    }
    return undefined;
  }

  /** Why an agent of that name and installation is not admitted now, whichever key it shows. */
  agentRefused({ role, name, instance }: Pick<Login, 'role' | 'name' | 'instance'>): Problem | undefined {
    if (role !== 'agent') return undefined;
    const revocation = this.#options.revocations.isAgentRevoked(name, instance);
    if (revocation === undefined) return undefined;
    const which = revocation.instance === null ? name : `${name}, instance ${instance},`;
    return { status: 401, code: revocation.kind, detail: `agent ${which} is revoked` };
  }

  /** Why a link may not go on: what it stands on is revoked. */
  endedBecause({ keyIds, agent, instance, connectionId }: LinkStanding): CloseReason | undefined {
    const { revocations } = this.#options;
    const revocation =
      keyIds.map((keyId) => revocations.isRevoked(keyId)).find((found) => found !== undefined) ??
      revocations.isAgentRevoked(agent, instance) ??
      revocations.isConnectionRemoved(connectionId);
    return revocation?.kind;
  }

  /** What is wrong with a hello, or with who says it. */
  helloProblem(
    hello: Payload<'hello'>,
    claim: {
      readonly role: Side;
      readonly name: string;
      readonly instance: string;
      readonly instanceSecret: string;
    },
  ): Problem | undefined {
    if (!NAME.test(claim.name)) {
      return { status: 400, code: 'name_invalid', detail: 'name is not 1 to 63 of a-z, 0-9 and dash' };
    }
    if (claim.instance === '' || claim.instanceSecret === '') {
      return { status: 400, code: 'instance_missing', detail: 'hello names no instance' };
    }
    if (hello.namespace.toLowerCase() !== this.#options.namespace.toLowerCase()) {
      return { status: 400, code: 'namespace_unknown', detail: 'this node serves another namespace' };
    }
    const taken = this.#options.logins
      .all()
      .some((old) => old.claimsInstance(claim) && !old.isSameInstance(claim));
    if (!taken) return undefined;
    return { status: 409, code: 'instance_taken', detail: 'another process logs in with this instance' };
  }
}
