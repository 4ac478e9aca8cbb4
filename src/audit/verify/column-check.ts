import { BlockList, isIP } from 'node:net';
import { projectionOf, readEnvelope } from '../event/projection.ts';

/** Columns that the database sets, or that are the evidence itself. */
const NOT_DERIVED: ReadonlySet<string> = new Set([
  'recorded_at',
  'chain_id',
  'seq',
  'clock_skew_ms',
  'canonical',
]);
const ADDRESSES: ReadonlySet<string> = new Set(['client_addr', 'source_addr', 'target_addr']);

const sameAddress = (a: unknown, b: unknown): boolean => {
  if (a === b) return true;
  if (typeof a !== 'string' || typeof b !== 'string') return false;
  if (isIP(a) !== 6 || isIP(b) !== 6) return false;
  const list = new BlockList();
  list.addAddress(a, 'ipv6');
  return list.check(b, 'ipv6');
};

/** Timestamps in one form: no zone suffix, no trailing zeros of the fraction. */
const instant = (value: unknown): unknown =>
  typeof value === 'string'
    ? value
        .replace(/(Z|\+00:00)$/, '')
        .replace(/(\.\d*?)0+$/, '$1')
        .replace(/\.$/, '')
    : value;

const same = (name: string, expected: unknown, found: unknown): boolean => {
  if (expected === found) return true;
  if (name === 'occurred_at' || name === 'local_at') return instant(expected) === instant(found);
  if (ADDRESSES.has(name)) return sameAddress(expected, found);
  return JSON.stringify(expected) === JSON.stringify(found);
};

/**
 * Names of the columns that do not follow from the canonical bytes. `row` is the event as Postgres writes it as JSON, `site` that of an
 * imported chain.
 */
export const alteredColumns = (
  canonical: Uint8Array,
  row: Readonly<Record<string, unknown>>,
  site: string | null = null,
): string[] => {
  const envelope = readEnvelope(canonical);
  const kept = typeof row.projection_error === 'string' && row.projection_error.startsWith('sqlstate ');
  if (envelope === undefined && kept) return [];
  const derived = envelope === undefined ? {} : projectionOf(envelope);
  // The site is the chain's; what an event says of itself is not believed.
  const expected: Readonly<Record<string, unknown>> = { ...derived, site };
  return Object.keys(row).filter(
    (name) => !NOT_DERIVED.has(name) && !same(name, expected[name] ?? null, row[name] ?? null),
  );
};
