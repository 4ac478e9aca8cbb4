import {
  type CarrierStatus,
  type LoginState,
  revocationView,
  type ServerRevocation,
} from '../protocol/index.ts';
import type { Readiness } from '../runtime/index.ts';
import type { EntranceView } from './entrance/entrances.ts';
import type { FailureLog } from './failures.ts';
import type { LinkPool } from './link-pool.ts';

const FAILURES_SHOWN = 5;

export interface GatewayView {
  readonly version: string;
  readonly namespace: string;
  readonly name: string;
  readonly instance: string;
  readonly isDraining: boolean;
  readonly logins: readonly LoginState[];
  readonly carriers: readonly CarrierStatus[];
  readonly pools: readonly LinkPool[];
  readonly entrances: readonly EntranceView[];
  readonly streams: number;
  readonly failures: FailureLog;
  /** Whether the relays' certificates are revoked. */
  readonly revocation: ServerRevocation;
}

const loginView = (login: LoginState): object => {
  if (login.kind === 'up') {
    return {
      node: login.node,
      state: 'up',
      port: login.port,
      login_id: login.loginId,
      since: new Date(login.sinceMs).toISOString(),
      rtt_ms: login.rttMs ?? null,
      node_healthy: login.nodeHealthy,
    };
  }
  const down = login.kind === 'connecting' ? login.down : undefined;
  return {
    node: login.node,
    state: login.kind,
    ...(down === undefined ? {} : { code: down.code, detail: down.detail, retry_in_ms: down.retryInMs }),
  };
};

/** Why a stream of this connection would not open now; undefined when it would. */
const connectionProblem = (pool: LinkPool, logins: readonly LoginState[]): string | undefined => {
  if (pool.links.some(({ isOpenable }) => isOpenable)) return undefined;
  if (!pool.isEager && pool.credentials.size > 0 && pool.lastFailure === undefined) return undefined;
  if (pool.lastFailure !== undefined) return `${pool.lastFailure.code}: ${pool.lastFailure.detail}`;
  const waiting = logins.find((login) => login.kind === 'connecting');
  if (pool.credentials.size === 0)
    return waiting?.down?.detail ?? 'its credential is attached at no relay node';
  return 'its data link is being made';
};

/** Whether a stream of every connection would work now, as far as this side can tell. */
export const gatewayReadiness = (view: GatewayView): Readiness => {
  const reasons: string[] = view.isDraining ? ['the gateway is shutting down'] : [];
  for (const pool of view.pools) {
    const problem = connectionProblem(pool, view.logins);
    if (problem !== undefined) reasons.push(`connection ${pool.connection}: ${problem}`);
  }
  return { ready: reasons.length === 0, reasons };
};

/** Where applications reach a connection: at an address of its own, under its target's name. */
const entrancesOf = ({ entrances }: GatewayView, connection: string): object => {
  const own = entrances.filter(
    ({ connections: [first, ...more] }) => first === connection && more.length === 0,
  );
  const named = own.find(({ kind }) => kind === 'transparent');
  return {
    listen: own.find(({ kind }) => kind === 'listener')?.listen ?? null,
    transparent: named === undefined ? null : { names: named.names, listen: named.listen },
  };
};

/** What `/status` shows. */
export const gatewayStatus = (view: GatewayView): object => ({
  process: 'gateway',
  version: view.version,
  namespace: view.namespace,
  name: view.name,
  instance: view.instance,
  readiness: gatewayReadiness(view),
  logins: view.logins.map(loginView),
  certificates: revocationView(view.revocation),
  carriers: view.carriers,
  connections: view.pools.map((pool) => ({
    connection: pool.connection,
    ...entrancesOf(view, pool.connection),
    eager: pool.isEager,
    problem: connectionProblem(pool, view.logins) ?? null,
    waiting: pool.waitingCount,
    keys: [...pool.credentials].map(([node, { key_id, principal, expires_at_ms }]) => ({
      node,
      key_id,
      principal,
      expires_at: new Date(expires_at_ms).toISOString(),
    })),
    links: pool.links.map((link) => ({
      link_id: link.id,
      node: link.node,
      agent: link.offer.peer.name,
      carrier: link.carrier,
      port: link.port,
      state: link.isOpenable ? 'up' : 'ending',
      streams: link.session.streamCount,
      rtt_ms: link.stats().rttMs ?? null,
    })),
    failures: view.failures.of(pool.connection, FAILURES_SHOWN),
  })),
  entrances: view.entrances,
  streams: { open: view.streams },
});
