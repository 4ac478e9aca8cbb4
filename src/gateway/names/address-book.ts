import { createHash } from 'node:crypto';
import { isIPv4 } from 'node:net';
import { z } from 'zod';
import { AppError, isNameAddress, NAME_ADDRESSES, nameAddress } from '../../runtime/index.ts';
import type { GatewayErrorCode } from '../errors.ts';

/** An address whose host has gone is nobody else's for this long: somebody may still have a hosts file with it. */
export const FREED_KEPT_MS = 30 * 24 * 60 * 60 * 1_000;

const entrySchema = z.strictObject({
  host: z.string().min(1),
  address: z.string().refine((text) => isIPv4(text) && isNameAddress(text)),
  /** Since when no connection has the host; absent while one has. */
  freed_at: z.iso.datetime().optional(),
});

const isEachOnce = (values: readonly string[]): boolean => new Set(values).size === values.length;

/** names.json: which host has which address. */
export const addressBookSchema = z.strictObject({
  version: z.literal(1),
  hosts: z
    .array(entrySchema)
    .refine((entries) => isEachOnce(entries.map(({ address }) => address)), 'an address stands there twice')
    .refine((entries) => isEachOnce(entries.map(({ host }) => host)), 'a host stands there twice'),
});

export type AddressBook = z.infer<typeof addressBookSchema>;

export const EMPTY_BOOK: AddressBook = { version: 1, hosts: [] };

/** Where the search for an address of a host begins: the same on every machine, so that a lost state changes little. */
const firstIndexOf = (host: string): number =>
  createHash('sha256').update(host).digest().readUInt32BE(0) % NAME_ADDRESSES;

/**
 * The book with exactly these hosts. A host keeps its address, whatever comes and goes beside it, and gets it back when it
 * returns; the addresses of those that have gone are not given away for `FREED_KEPT_MS`.
 *
 * @param taken addresses that others on this machine have
 * @throws AppError ERR_GATEWAY_STATE when there is no address left
 */
export const assignAddresses = (
  book: AddressBook,
  hosts: readonly string[],
  taken: ReadonlySet<string>,
  nowMs: number,
  firstIndex: (host: string) => number = firstIndexOf,
): AddressBook => {
  const wanted = new Set(hosts);
  const kept = book.hosts.flatMap((entry) => {
    const { host, address, freed_at: freedAt } = entry;
    if (wanted.has(host)) return [{ host, address }];
    if (freedAt === undefined) return [{ host, address, freed_at: new Date(nowMs).toISOString() }];
    return nowMs - Date.parse(freedAt) < FREED_KEPT_MS ? [entry] : [];
  });
  const known = new Set(kept.map(({ host }) => host));
  const used = new Set([...taken, ...kept.map(({ address }) => address)]);
  // Sorted, so that the same hosts get the same addresses in whatever order the configuration names them.
  const added = [...wanted]
    .filter((host) => !known.has(host))
    .sort()
    .map((host) => {
      const address = freeAddress(firstIndex(host), used);
      used.add(address);
      return { host, address };
    });
  return { version: 1, hosts: [...kept, ...added] };
};

const freeAddress = (first: number, used: ReadonlySet<string>): string => {
  for (let step = 0; step < NAME_ADDRESSES; step += 1) {
    const candidate = nameAddress((first + step) % NAME_ADDRESSES);
    if (!used.has(candidate)) return candidate;
  }
  throw new AppError<GatewayErrorCode>(
    'ERR_GATEWAY_STATE',
    `all ${NAME_ADDRESSES} addresses for names are taken`,
  );
};
