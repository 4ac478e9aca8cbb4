import type { PolicyStatus } from '../policy/index.ts';
import type { BundleSourceStatus } from './bundle-source.ts';

/** Longest message of a report, in UTF-16 code units. */
const MAX_MESSAGE = 1_000;
/** What OPA reports of an instant that has not come (Go's zero time). */
const NEVER = '0001-01-01T00:00:00Z';
/** The one code of OPA's reports; which problem it is stands in `errors`. */
const BUNDLE_ERROR = 'bundle_error';

interface ReportedProblem {
  readonly code: string;
  readonly message: string;
}

/** The body of OPA's status API, as far as an agent has what it asks for. */
export interface StatusReport {
  readonly labels: Readonly<Record<string, string>>;
  readonly bundles: Readonly<Record<string, Readonly<Record<string, unknown>>>>;
  readonly plugins: Readonly<Record<string, { readonly state: 'OK' | 'NOT_READY' | 'ERROR' }>>;
}

export interface ReportView {
  readonly namespace: string;
  readonly agent: {
    readonly name: string;
    readonly instance: string;
    readonly labels: Readonly<Record<string, string>>;
    readonly version: string;
  };
  readonly bundleName: string;
  readonly policy: PolicyStatus;
  /** Of the active bundle. */
  readonly sizeBytes: number | undefined;
  /** Undefined when the bundle is a file, which nobody is asked for. */
  readonly source: BundleSourceStatus | undefined;
}

const instant = (ms: number | undefined): string => (ms === undefined ? NEVER : new Date(ms).toISOString());

/** What keeps the newest bundle from deciding, the gravest first. */
const problemsOf = ({ policy, source }: ReportView): ReportedProblem[] => {
  const { withdrawn, freshness, rejected, grantsRejected, held } = policy;
  const fetching = source?.lastError;
  return [
    ...(withdrawn === undefined ? [] : [{ code: 'bundle_untrusted', message: withdrawn.message }]),
    ...(freshness.isStale
      ? [{ code: 'bundle_stale', message: 'the source of the bundle is silent; everything is denied' }]
      : []),
    ...[rejected, grantsRejected].flatMap((one) =>
      one === undefined ? [] : [{ code: one.code, message: one.message }],
    ),
    ...(held === undefined
      ? []
      : [
          {
            code: 'bundle_held',
            message: `revision '${held.revision}' is held: it would close ${String(held.wouldClose)} of ${String(held.live)} live streams; confirm ${held.id}`,
          },
        ]),
    ...(fetching === undefined || [rejected?.message, grantsRejected?.message].includes(fetching)
      ? []
      : [{ code: 'ERR_AGENT_BUNDLE_SOURCE', message: fetching }]),
  ].map(({ code, message }) => ({ code, message: message.slice(0, MAX_MESSAGE) }));
};

/** What the agent runs, as an OPA with the same bundle would report it. */
export const statusReport = (view: ReportView): StatusReport => {
  const { namespace, agent, bundleName, policy, sizeBytes, source } = view;
  const { active } = policy;
  const errors = problemsOf(view);
  const [first] = errors;
  const decides = active !== undefined && !policy.freshness.isStale;
  const wasWithdrawn = policy.withdrawn !== undefined || policy.freshness.isStale;
  return {
    labels: { ...agent.labels, namespace, agent: agent.name, id: agent.instance, version: agent.version },
    bundles: {
      [bundleName]: {
        name: bundleName,
        ...(active === undefined
          ? {}
          : { type: 'snapshot', active_revision: active.revision, size: sizeBytes }),
        last_request: instant(source?.lastAttemptMs),
        last_successful_request: instant(source?.lastAnsweredMs),
        last_successful_download: instant(source?.lastDownloadMs),
        last_successful_activation: instant(active?.activatedMs),
        ...(first === undefined ? {} : { code: BUNDLE_ERROR, message: first.message, errors }),
        ...(source?.lastStatus === undefined ? {} : { http_code: source.lastStatus }),
      },
    },
    plugins: {
      bundle: { state: decides ? 'OK' : wasWithdrawn ? 'ERROR' : 'NOT_READY' },
      status: { state: 'OK' },
    },
  };
};

const TIMES = ['last_request', 'last_successful_request', 'last_successful_download'];

/** Tells reports apart by what is news: that the server was asked once more is none. */
export const newsOf = (report: StatusReport): string =>
  JSON.stringify(report, (key, value: unknown) => (TIMES.includes(key) ? undefined : value));
