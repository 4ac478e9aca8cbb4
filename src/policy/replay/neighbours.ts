import { addressText } from '../../runtime/index.ts';
import { addressBytes } from '../address.ts';
import { isInRange, parseRange } from '../address-range.ts';

export const HOURS_OF_DAY = 24;
const MAX_BYTE = 255;
/** RFC 5737, RFC 3849: nobody is there. */
const DOCUMENTATION = {
  4: ['192.0.2.1', '198.51.100.1', '203.0.113.1'],
  16: ['2001:db8::1', '2001:db8:1::1', '2001:db8:ffff::1'],
} as const;

/** The next address up or down, else one of a documentation network, that is in none of the networks. */
export const neighbourAddress = (address: string, networks: readonly string[]): string | undefined => {
  const ranges = networks.map(parseRange);
  const bytes = addressBytes(address);
  const last = bytes.at(-1) ?? 0;
  const beside = [last + 1, last - 1]
    .filter((byte) => byte >= 0 && byte <= MAX_BYTE)
    .map((byte) => addressText([...bytes.slice(0, -1), byte]));
  return [...beside, ...DOCUMENTATION[bytes.length === 4 ? 4 : 16]].find((candidate) => {
    const other = addressBytes(candidate);
    return !ranges.some((range) => isInRange(other, range));
  });
};

/** The hour nearest to one, around midnight too, that is not among the others; undefined when all are. */
export const neighbourHour = (hour: number, hours: ReadonlySet<number>): number | undefined => {
  for (let distance = 1; distance < HOURS_OF_DAY; distance += 1) {
    for (const step of [distance, -distance]) {
      const other = (hour + step + HOURS_OF_DAY) % HOURS_OF_DAY;
      if (!hours.has(other)) return other;
    }
  }
  return undefined;
};

/** The port nearest to one that is not among the others. */
export const neighbourPort = (port: number, ports: ReadonlySet<number>): number => {
  let other = port === 1 ? port + 1 : port - 1;
  while (ports.has(other)) other = other === 1 ? port + 1 : other + (other < port ? -1 : 1);
  return other;
};

/** A name like one that is not among the others. */
export const neighbourName = (name: string, names: { has(name: string): boolean }): string => {
  let other = `${name}-other`;
  while (names.has(other)) other = `${other}-other`;
  return other;
};
