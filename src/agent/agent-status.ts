import type { AuditHealth, PolicyStore } from '../audit/index.ts';
import type { ManagedStatus, PolicyStatus } from '../policy/index.ts';
import {
  type CarrierStatus,
  type LoginState,
  revocationView,
  type ServerRevocation,
} from '../protocol/index.ts';
import type { Readiness } from '../runtime/index.ts';
import type { AgentLink } from './agent-link.ts';
import type { BundleSourceStatus } from './bundle-source.ts';
import type { FailureLog } from './failures.ts';
import type { PublicationStatus } from './publication.ts';
import { nextStepOf, type RefusedKey } from './refused-keys.ts';
import type { ShadowStatus } from './shadow.ts';
import type { ReporterStatus } from './status-reporter.ts';
import type { TargetHealthStatus } from './target-health.ts';

export interface AgentView {
  readonly version: string;
  readonly namespace: string;
  readonly name: string;
  readonly instance: string;
  readonly isDraining: boolean;
  readonly connections: readonly string[];
  readonly offered: ReadonlySet<string>;
  readonly logins: readonly LoginState[];
  readonly carriers: readonly CarrierStatus[];
  readonly publications: readonly PublicationStatus[];
  readonly targets: readonly TargetHealthStatus[];
  readonly refusedKeys: readonly RefusedKey[];
  readonly links: readonly AgentLink[];
  readonly streams: number;
  readonly openings: number;
  readonly policy: PolicyStatus;
  /** Of `bundle_url`; undefined when the bundle is a file. */
  readonly bundleSource: BundleSourceStatus | undefined;
  /** Of `status_service`; undefined when nobody is told. */
  readonly reporter: ReporterStatus | undefined;
  readonly shadow: ShadowStatus;
  readonly managed: ManagedStatus & {
    /** Why managed settings refuse everything. */
    readonly bars: string | undefined;
    /** Settings that hold with a restart only. */
    readonly awaitingRestart: readonly string[];
  };
  readonly isAuditAvailable: boolean;
  readonly audit: AuditHealth;
  /** What decides, on its way to the audit database; undefined without one. */
  readonly policyCopies: ReturnType<PolicyStore['status']> | undefined;
  readonly revocations: number;
  readonly areRevocationsFull: boolean;
  readonly failures: FailureLog;
  /** Whether the relays' certificates are revoked. */
  readonly revocation: ServerRevocation;
}

const FAILURES_SHOWN = 5;
const SECOND_MS = 1_000;

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
      credentials: login.credentials.map(({ connection, key_id, principal, expires_at_ms }) => ({
        connection,
        key_id,
        principal,
        expires_at: new Date(expires_at_ms).toISOString(),
      })),
    };
  }
  const down = login.kind === 'connecting' ? login.down : undefined;
  return {
    node: login.node,
    state: login.kind,
    ...(down === undefined ? {} : { code: down.code, detail: down.detail, retry_in_ms: down.retryInMs }),
  };
};

const silence = ({ policy, bundleSource }: AgentView): string => {
  const { ageMs, maxAgeMs } = policy.freshness;
  const since =
    ageMs === undefined ? 'was never heard' : `is silent for ${String(Math.floor(ageMs / SECOND_MS))} s`;
  const limit = `the limit is ${String((maxAgeMs ?? 0) / SECOND_MS)} s`;
  const why = bundleSource?.lastError;
  return `the source of the policy bundle ${since}, ${limit}${why === undefined ? '' : `: ${why}`}`;
};

const instant = (ms: number | undefined): string | null =>
  ms === undefined ? null : new Date(ms).toISOString();

/** Where the bundle comes from, and how old the word of its source is. */
const sourceView = ({ policy, bundleSource }: AgentView): object => {
  if (bundleSource === undefined) return { kind: 'file' };
  const { ageMs, maxAgeMs, isStale } = policy.freshness;
  const seconds = (ms: number | undefined): number | null =>
    ms === undefined ? null : Math.floor(ms / SECOND_MS);
  return {
    kind: 'url',
    url: bundleSource.url,
    etag: bundleSource.etag ?? null,
    last_attempt: instant(bundleSource.lastAttemptMs),
    last_success: instant(bundleSource.lastSuccessMs),
    last_error: bundleSource.lastError ?? null,
    age_seconds: seconds(ageMs),
    max_age_seconds: seconds(maxAgeMs),
    stale: isStale,
  };
};

/** How the server that is told what runs here takes it. */
const reportView = ({ reporter }: AgentView): object | null =>
  reporter === undefined
    ? null
    : {
        url: reporter.url,
        last_success: instant(reporter.lastSuccessMs),
        last_error: reporter.lastError ?? null,
      };

/** The bundle beside the active one, which is never enforced. */
const shadowView = ({ state, bundle, signedBy, sinceMs, counts, detail }: ShadowStatus): object => ({
  state,
  bundle: bundle === undefined ? null : { ...bundle, signed_by: signedBy ?? null },
  since: instant(sinceMs),
  counts: counts ?? null,
  detail: detail ?? null,
});

/** Why the bundle of the source that managed settings require does not decide yet. */
const waitingFor = ({ policy }: AgentView): string | undefined => {
  if (!policy.isMoving) return undefined;
  if (policy.held === undefined) return policy.rejected?.message ?? 'it is not there yet';
  return `the activation of sequence ${String(policy.held.sequence)} is held; confirm it by policy activate`;
};

/** Which key which node refuses, why, and what to do. */
const refusedText = ({ node, keyName, code, detail }: RefusedKey): string => {
  const step = nextStepOf(code);
  return `${node} refuses its key of auth-rule ${keyName}: ${code}: ${detail}${step === undefined ? '' : `; ${step}`}`;
};

/** Whether a stream of every configured connection would get past this agent now. */
export const agentReadiness = (view: AgentView): Readiness => {
  const reasons: string[] = [];
  if (view.isDraining) reasons.push('the agent is shutting down');
  if (view.managed.bars !== undefined) {
    const why = view.managed.refused?.message ?? waitingFor(view);
    reasons.push(
      `managed settings refuse everything: ${view.managed.bars}${why === undefined ? '' : `: ${why}`}`,
    );
  }
  if (view.policy.active === undefined) {
    const { rejected, grantsRejected } = view.policy;
    const why = (rejected ?? grantsRejected)?.message ?? view.bundleSource?.lastError;
    reasons.push(`no policy bundle is active${why === undefined ? '' : `: ${why}`}`);
  }
  if (view.policy.active !== undefined && view.policy.grantsRejected !== undefined)
    reasons.push(view.policy.grantsRejected.message);
  if (view.areRevocationsFull)
    reasons.push(`it keeps ${view.revocations} revocations, as many as it may, and serves nothing`);
  if (view.policy.freshness.isStale) reasons.push(silence(view));
  if (!view.isAuditAvailable) reasons.push(`audit takes no decision: the spool is ${view.audit.spool}`);
  if (!view.logins.some(({ kind }) => kind === 'up')) {
    const first = view.logins.find((login) => login.kind === 'connecting');
    reasons.push(`logged in at no relay node${first?.down === undefined ? '' : `: ${first.down.detail}`}`);
  }
  for (const connection of view.connections) {
    if (view.offered.has(connection)) continue;
    const publication = view.publications.find((one) => one.connection === connection);
    const refused = view.refusedKeys.find((one) => one.connection === connection);
    const why =
      refused === undefined
        ? (publication?.detail ?? publication?.state ?? 'no credential of it is attached')
        : refusedText(refused);
    reasons.push(`connection ${connection} is not offered: ${why}`);
  }
  return { ready: reasons.length === 0, reasons };
};

const managedView = ({
  path,
  state,
  sinceMs,
  settings,
  refused,
  bars,
  awaitingRestart,
}: AgentView['managed']): object => ({
  path,
  state,
  ...(state === 'absent' ? { note: 'there are no managed settings: nothing is restricted by them' } : {}),
  since: instant(sinceMs),
  settings: settings ?? null,
  bars: bars ?? null,
  awaiting_restart: awaitingRestart,
  refused: refused && {
    at: new Date(refused.atMs).toISOString(),
    code: refused.code,
    message: refused.message,
  },
});

/** What `/status` shows. */
export const agentStatus = (view: AgentView): object => ({
  process: 'agent',
  version: view.version,
  namespace: view.namespace,
  name: view.name,
  instance: view.instance,
  readiness: agentReadiness(view),
  logins: view.logins.map(loginView),
  certificates: revocationView(view.revocation),
  carriers: view.carriers,
  connections: view.publications,
  targets: view.targets,
  refused_keys: view.refusedKeys.map((key) => ({
    connection: key.connection ?? null,
    node: key.node,
    key_name: key.keyName,
    code: key.code,
    detail: key.detail,
    since: instant(key.atMs),
    next_step: nextStepOf(key.code) ?? null,
  })),
  links: view.links.map((link) => ({
    link_id: link.id,
    node: link.node,
    connection: link.offer.connection,
    gateway: link.offer.gateway,
    principal: link.offer.sender.principal,
    key_id: link.offer.sender.id,
    carrier: link.carrier,
    port: link.port,
    streams: link.streamCount,
    rtt_ms: link.stats().rttMs ?? null,
  })),
  streams: { open: view.streams, opening: view.openings - view.streams },
  policy: {
    ...view.policy,
    shadow: shadowView(view.shadow),
    source: sourceView(view),
    report: reportView(view),
  },
  managed: managedView(view.managed),
  audit: {
    ...view.audit,
    policies_waiting: view.policyCopies?.waiting ?? 0,
    policies_error: view.policyCopies?.error ?? null,
  },
  revocations: view.revocations,
  failures: view.failures.latest(FAILURES_SHOWN),
});
