import {
  type DecisionReason,
  DEFAULT_RECHECK_SECONDS,
  MIN_RECHECK_SECONDS,
  type Obligations,
  type Verdict,
} from '../decision.ts';

export type ParsedVerdict =
  | { readonly ok: true; readonly verdict: Verdict }
  | { readonly ok: false; readonly detail: string };

/** Obligations an agent can enforce; a result with any other is refused, because it could not be kept. */
export const OBLIGATION_NAMES: ReadonlySet<string> = new Set([
  'max_seconds',
  'max_bytes',
  'idle_seconds',
  'recheck_seconds',
  'max_streams_per_principal',
]);

const RESULT_FIELDS: ReadonlySet<string> = new Set([
  'allow',
  'rule',
  'rules',
  'reasons',
  'obligations',
  'recheck_at',
]);

const INSTANT = /^\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])T([01]\d|2[0-3]):[0-5]\d:[0-5]\dZ$/;

const isObject = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

const isTexts = (value: unknown): value is readonly string[] =>
  Array.isArray(value) && value.every((item) => typeof item === 'string');

const isReason = (value: unknown): value is DecisionReason =>
  isObject(value) && typeof value['code'] === 'string' && value['code'] !== '' && isObject(value['args']);

const isRules = (value: unknown): value is Verdict['rules'] =>
  isObject(value) && isTexts(value['publish']) && isTexts(value['stream']);

const isPositive = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) > 0;

const obligationsOf = (value: unknown): Obligations | undefined => {
  if (!isObject(value)) return undefined;
  for (const [name, limit] of Object.entries(value)) {
    if (!OBLIGATION_NAMES.has(name) || !isPositive(limit)) return undefined;
  }
  const recheck = value['recheck_seconds'] ?? DEFAULT_RECHECK_SECONDS;
  if (!isPositive(recheck)) return undefined;
  return { ...value, recheck_seconds: Math.max(MIN_RECHECK_SECONDS, recheck) };
};

const wrong = (detail: string): ParsedVerdict => ({ ok: false, detail });

/**
 * Reads what an evaluation returned. Anything but exactly one result of exactly the agreed form is an error,
 * and an error is a deny: `allow` must be the literal `true` or `false`, and an allow must name its rule.
 */
export const parseResult = (returned: unknown): ParsedVerdict => {
  if (!Array.isArray(returned) || returned.length !== 1) {
    return wrong(
      Array.isArray(returned) && returned.length === 0 ? 'undefined result' : 'not exactly one result',
    );
  }
  const wrapper: unknown = returned[0];
  const result = isObject(wrapper) ? wrapper['result'] : undefined;
  if (!isObject(result)) return wrong('result is not an object');
  const unknown = Object.keys(result).find((name) => !RESULT_FIELDS.has(name));
  if (unknown !== undefined) return wrong(`result has an unknown field '${unknown.slice(0, 64)}'`);
  const { allow, rule, rules, reasons, recheck_at: recheckAt } = result;
  if (allow !== true && allow !== false) return wrong('allow is neither true nor false');
  if (rule !== null && typeof rule !== 'string') return wrong('rule is neither text nor null');
  if (!isRules(rules)) return wrong('rules is not {publish, stream} of texts');
  if (!Array.isArray(reasons) || !reasons.every(isReason))
    return wrong('reasons is not a list of {code, args}');
  if (recheckAt !== null && (typeof recheckAt !== 'string' || !INSTANT.test(recheckAt))) {
    return wrong('recheck_at is neither a utc instant nor null');
  }
  const obligations = obligationsOf(result['obligations']);
  if (obligations === undefined) return wrong('obligations are not known names with positive integers');
  if (allow && (typeof rule !== 'string' || rule === '')) return wrong('allow without a rule');
  return { ok: true, verdict: { allow, rule, rules, reasons, obligations, recheck_at: recheckAt } };
};
