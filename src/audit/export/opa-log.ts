import { readEnvelope } from '../event/projection.ts';
import type { ExportedEvent } from './snapshot.ts';

/** The bundle's name in the log: OPA has a map of names, an agent has one bundle. */
const BUNDLE_NAME = 'sallyport';
const NANOSECONDS_PER_MICROSECOND = 1_000;

const PATHS: Readonly<Record<string, string>> = {
  'publish.decision': 'sallyport/decision/publish',
  'stream.decision': 'sallyport/decision/stream',
};

type Members = Readonly<Record<string, unknown>>;

const membersOf = (value: unknown): Members =>
  typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Members) : {};

/** What was answered: the verdict over all candidate addresses of the decision, and each address's own. */
const resultOf = (data: Members): Members => ({
  allow: data['allow'],
  rule: data['rule'],
  rules: data['rules'],
  reasons: data['reasons'],
  obligations: data['obligations'],
  recheck_at: data['recheck_at'],
  candidates: data['candidates'],
  decided_by: data['decided_by'],
  reason: data['reason'],
});

/** Whether a text is JSON that may stand within one line as it is. */
const isJsonLine = (text: string): boolean => {
  if (/[\r\n]/.test(text)) return false;
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
};

/**
 * One line of OPA's decision log, in the form of the elements that OPA itself uploads; undefined for an event that is no
 * decision. `input` is the canonical input byte for byte, as the engine parsed it: without `target.address`, which is
 * each of `result.candidates` in turn.
 */
export const opaLogLine = (event: ExportedEvent): string | undefined => {
  const envelope = readEnvelope(event.canonical);
  const path = envelope === undefined ? undefined : PATHS[envelope.type];
  if (envelope === undefined || path === undefined) return undefined;
  const { origin, subject, data } = envelope;
  const bundle = membersOf(data['bundle']);
  const { input, eval_us: evalUs } = data;
  const entry = {
    labels: {
      app: 'sallyport',
      id: origin.instance,
      version: origin.version,
      agent: origin.name,
      namespace: subject['namespace'] ?? origin.namespace,
      ...(event.site === null ? {} : { site: event.site }),
    },
    decision_id: envelope.id,
    ...(bundle['sha256'] === undefined
      ? {}
      : { bundles: { [BUNDLE_NAME]: { revision: bundle['revision'] ?? bundle['sha256'] } } }),
    path,
    result: resultOf(data),
    requested_by: subject['source_addr'] ?? subject['gateway'] ?? subject['agent'] ?? origin.name,
    timestamp: envelope.at,
    ...(typeof evalUs === 'number'
      ? { metrics: { timer_rego_query_eval_ns: Math.round(evalUs * NANOSECONDS_PER_MICROSECOND) } }
      : {}),
    custom: {
      chain_id: event.chain,
      seq: event.seq,
      stream_id: subject['stream_id'],
      attempt: subject['attempt'],
      connection: subject['connection'],
      principal: subject['principal'],
      bundle_sha256: bundle['sha256'],
      bundle_sequence: bundle['sequence'],
      managed_sha256: data['managed_sha256'],
      count: data['count'] ?? 1,
      shadow: data['shadow'],
      recheck: data['recheck'],
    },
  };
  const text = JSON.stringify(entry);
  // Embedded as it is: parsing and writing it again could say the same in other bytes.
  return typeof input === 'string' && isJsonLine(input)
    ? `${text.slice(0, -1)},"input":${input}}\n`
    : `${text}\n`;
};
