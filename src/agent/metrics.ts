import { Counter, Gauge, Histogram } from 'prom-client';
import type { Registry } from '../runtime/index.ts';
import { SHADOW_STATES, type ShadowStatus } from './shadow.ts';

/** Decision time, seconds: the budget is 100 ms, 25 ms is worth a look (policy.md, Engine rules). */
const DECISION_BUCKETS = [0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.005, 0.025, 0.1];
/** Revocation: the promise is 250 ms. */
const REVOCATION_BUCKETS = [0.001, 0.005, 0.025, 0.05, 0.1, 0.25, 1];

/** What the gauges read when they are scraped. */
export interface AgentGauges {
  streams(): number;
  openings(): number;
  links(): { readonly carrier: string; readonly state: string; readonly count: number }[];
  logins(): { readonly state: string; readonly count: number }[];
  linkRttMs(): number | undefined;
  creditStalls(): number;
  decisionQueue(): number;
  /** Whether an activation waits to be confirmed. */
  isBundleHeld(): boolean;
  /** Targets that somebody has dialled: 1 reachable, 0 not. */
  targets(): { readonly connection: string; readonly count: number }[];
  shadowState(): ShadowStatus['state'];
  /** Since the source of the bundle confirmed it; undefined for a file. */
  bundleAgeMs(): number | undefined;
  audit(): {
    readonly spoolBytes: number;
    readonly oldestSeconds: number;
    readonly dropped: number;
    readonly shareRefusals: number;
    readonly noteFailures: number;
  };
}

export type AgentMetrics = ReturnType<typeof agentMetrics>;

const MS_PER_SECOND = 1_000;

/** The agent's metrics, named as interfaces.md lists them. */
export const agentMetrics = (registry: Registry, gauges: AgentGauges) => {
  const registers = [registry];
  const gauge = (name: string, help: string, read: () => number | undefined): void => {
    new Gauge({
      name,
      help,
      registers,
      collect() {
        const value = read();
        if (value !== undefined) this.set(value);
      },
    });
  };
  const byState = (
    name: string,
    help: string,
    labelNames: readonly string[],
    read: () => ({ readonly count: number } & Readonly<Record<string, string | number>>)[],
  ): void => {
    new Gauge({
      name,
      help,
      labelNames,
      registers,
      collect() {
        this.reset();
        for (const { count, ...labels } of read()) this.set(labels, count);
      },
    });
  };
  gauge('sallyport_streams_open', 'Streams open now.', () => gauges.streams());
  gauge('sallyport_slots_in_use', 'Streams open or being opened.', () => gauges.openings());
  byState('sallyport_links', 'Data links by carrier and state.', ['carrier', 'state'], () => gauges.links());
  byState('sallyport_logins', 'Logins at relay nodes by state.', ['state'], () => gauges.logins());
  gauge('sallyport_link_rtt_seconds', 'Mean smoothed round trip over live data links.', () => {
    const rttMs = gauges.linkRttMs();
    return rttMs === undefined ? undefined : rttMs / MS_PER_SECOND;
  });
  gauge('sallyport_decision_queue', 'Decisions asked for and not yet answered.', () =>
    gauges.decisionQueue(),
  );
  gauge('sallyport_bundle_held', '1 while an activation waits to be confirmed.', () =>
    Number(gauges.isBundleHeld()),
  );
  byState('sallyport_shadow', '1 for the state that the shadow bundle is in.', ['state'], () => {
    const now = gauges.shadowState();
    return SHADOW_STATES.map((state) => ({ state, count: Number(state === now) }));
  });
  gauge('sallyport_bundle_age_seconds', 'Since the bundle server last confirmed the active bundle.', () => {
    const ageMs = gauges.bundleAgeMs();
    return ageMs === undefined ? undefined : ageMs / MS_PER_SECOND;
  });
  gauge('sallyport_audit_spool_bytes', 'Bytes in the audit spool.', () => gauges.audit().spoolBytes);
  gauge(
    'sallyport_audit_oldest_unacknowledged_seconds',
    'Age of the oldest event that the audit database has not acknowledged.',
    () => gauges.audit().oldestSeconds,
  );
  gauge('sallyport_audit_dropped', 'Close events dropped since the start.', () => gauges.audit().dropped);
  gauge(
    'sallyport_audit_share_refusals',
    'Decisions refused since the start because their principal had used up its share of the spool.',
    () => gauges.audit().shareRefusals,
  );
  gauge(
    'sallyport_audit_note_failures',
    'Events beside decisions that could not be kept since the start.',
    () => gauges.audit().noteFailures,
  );
  byState(
    'sallyport_target_reachable',
    '1 when the latest dial of a target came to a connection, 0 when not; none before the first.',
    ['connection'],
    () => gauges.targets(),
  );
  gauge('sallyport_credit_stalls', 'Times a stream ran out of credit, over live links.', () =>
    gauges.creditStalls(),
  );
  return {
    opened: new Counter({
      name: 'sallyport_streams_opened_total',
      help: 'OPENs answered, by result.',
      labelNames: ['result'],
      registers,
    }),
    certificateChecks: new Counter({
      name: 'sallyport_certificate_checks_total',
      help: 'Certificates of relays asked about at their CRLs, by what became known.',
      labelNames: ['state'],
      registers,
    }),
    refused: new Counter({
      name: 'sallyport_streams_refused_total',
      help: 'OPENs that became no stream, by reason.',
      labelNames: ['reason'],
      registers,
    }),
    closed: new Counter({
      name: 'sallyport_streams_closed_total',
      help: 'Streams that ended, by reason.',
      labelNames: ['reason'],
      registers,
    }),
    bytes: new Counter({
      name: 'sallyport_bytes_total',
      help: 'Payload bytes of ended streams, up (to the target) and down.',
      labelNames: ['direction'],
      registers,
    }),
    decisionSeconds: new Histogram({
      name: 'sallyport_decision_seconds',
      help: 'Time inside the policy engine per decision.',
      buckets: DECISION_BUCKETS,
      registers,
    }),
    revocationSeconds: new Histogram({
      name: 'sallyport_revocation_enforce_seconds',
      help: 'From a revocation notice to its last stream cut.',
      buckets: REVOCATION_BUCKETS,
      registers,
    }),
    reconnects: new Counter({
      name: 'sallyport_reconnects_total',
      help: 'Control links lost or not made.',
      registers,
    }),
    bundleFetches: new Counter({
      name: 'sallyport_bundle_fetches_total',
      help: 'Requests to the bundle server, by result.',
      labelNames: ['result'],
      registers,
    }),
    statusReports: new Counter({
      name: 'sallyport_status_reports_total',
      help: 'Reports to the status service, by result.',
      labelNames: ['result'],
      registers,
    }),
    shadowDecisions: new Counter({
      name: 'sallyport_shadow_decisions_total',
      help: 'Decisions looked at by the shadow bundle, by what it said of them.',
      labelNames: ['result'],
      registers,
    }),
    targetProbes: new Counter({
      name: 'sallyport_target_probes_total',
      help: 'Targets dialled without a stream, by result.',
      labelNames: ['result'],
      registers,
    }),
    rechecks: new Counter({
      name: 'sallyport_rechecks_total',
      help: 'Live streams re-evaluated, by result.',
      labelNames: ['result'],
      registers,
    }),
  };
};
