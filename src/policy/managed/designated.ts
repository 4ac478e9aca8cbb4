import { AppError, canonicalAddress, isMapped, parseAddress, parseHostPort } from '../../runtime/index.ts';
import { addressBytes } from '../address.ts';
import { type AddressRange, isInRange, parseRange } from '../address-range.ts';
import type { PolicyErrorCode } from '../errors.ts';

/** One entry of `designated`: a host by name, or a network, at one port. */
export type DesignatedEntry =
  | { readonly port: number; readonly host: string }
  | { readonly port: number; readonly range: AddressRange };

const MAX_SHOWN = 100;
/** Nearly an address: it would be taken for a name that no target has. */
const NUMBERS = /^[\d.]+$/;
const PLAIN = /^(?<network>[^:/]+\/[^:]*):(?<port>\d{1,5})$/;
const BRACKETED = /^\[(?<network>[^\]]*)\](?<after>\/[^:]*)?:(?<port>\d{1,5})$/;

/** The form in which host names are compared: lower case, without the dot of the root. */
export const hostName = (host: string): string => host.toLowerCase().replace(/\.$/, '');

const invalid = (text: string, why: string): AppError<PolicyErrorCode> =>
  new AppError('ERR_POLICY_ADDRESS', `'${text.slice(0, MAX_SHOWN)}' is not HOST:PORT or CIDR:PORT: ${why}`);

/**
 * Reads `db.internal:5432`, `10.1.2.3:5432`, `10.1.0.0/16:5432`, `[fd00::/8]:5432` (or `[fd00::]/8:5432`).
 * @throws AppError ERR_POLICY_ADDRESS
 */
export const parseDesignated = (text: string): DesignatedEntry => {
  const { network, after, port } = (BRACKETED.exec(text) ?? PLAIN.exec(text))?.groups ?? {};
  try {
    if (network === undefined || port === undefined) {
      const { host, port: number } = parseHostPort(text);
      if (number === 0) throw new Error('port 0 is none');
      if (parseAddress(host) !== undefined) return { port: number, range: parseRange(host) };
      if (NUMBERS.test(host)) throw new Error(`${host} is neither an address nor a name`);
      return { port: number, host: hostName(host) };
    }
    // The port's own limits are those of any HOST:PORT.
    const { port: number } = parseHostPort(`network:${port}`);
    if (number === 0) throw new Error('port 0 is none');
    const range = parseRange(network + (after ?? ''));
    if (isMapped(range.bytes)) throw new Error('write the IPv4 network, not its IPv4-mapped form');
    return { port: number, range };
  } catch (error) {
    throw invalid(text, error instanceof Error ? error.message : String(error));
  }
};

/** The outer bound that `designated` draws, indexed by port. */
export class Designated {
  readonly count: number;
  readonly #byPort = new Map<number, { readonly hosts: Set<string>; readonly ranges: AddressRange[] }>();

  constructor(entries: readonly DesignatedEntry[]) {
    this.count = entries.length;
    for (const entry of entries) {
      const at = this.#byPort.get(entry.port) ?? { hosts: new Set<string>(), ranges: [] };
      this.#byPort.set(entry.port, at);
      if ('host' in entry) at.hosts.add(entry.host);
      else at.ranges.push(entry.range);
    }
  }

  /** Whether an address that `host` resolved to may be dialled at that port; what is no address may not. */
  has(host: string, port: number, address: string): boolean {
    const at = this.#byPort.get(port);
    if (at === undefined) return false;
    const normalized = canonicalAddress(address);
    if (normalized === undefined) return false;
    if (at.hosts.has(hostName(host))) return true;
    const bytes = addressBytes(normalized);
    return at.ranges.some((range) => isInRange(bytes, range));
  }
}
