import { chownSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import {
  AppError,
  type Clock,
  foreignCodeOf,
  makePrivateDirectory,
  messageOf,
  nameSink,
  reasonOf,
  waitForPathLock,
  writeFileAtomically,
} from '../../runtime/index.ts';
import type { GatewayErrorCode } from '../errors.ts';
import { type AddressBook, addressBookSchema, assignAddresses, EMPTY_BOOK } from './address-book.ts';
import { allEntries, blockId, type HostsEntry, readHostsText } from './hosts-text.ts';
import { type NamedConnection, type NamedHost, namedHosts } from './named-hosts.ts';

const FILE_NAME = 'names.json';
/** The gateway and the command line assign addresses; the other one is waited for this long. */
const BOOK_WAIT_MS = 10_000;

/** What of gateway.yaml names depend on. */
export interface NamesConfig {
  readonly namespace: string;
  readonly name: string;
  readonly state_dir: string;
  readonly connections: readonly NamedConnection[];
}

/** A host with the loopback address that leads to it. */
export interface AddressedHost extends NamedHost {
  readonly address: string;
}

const unusable = (path: string, why: string, cause: unknown): AppError<GatewayErrorCode> =>
  new AppError('ERR_GATEWAY_STATE', `${path} cannot be used: ${why}`, { cause });

const readBook = (path: string): AddressBook => {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    if (foreignCodeOf(error) === 'ENOENT') return EMPTY_BOOK;
    throw unusable(path, reasonOf(error), error);
  }
  try {
    return addressBookSchema.parse(JSON.parse(text));
  } catch (error) {
    const remedy =
      'remove it, restart the gateway and run `sallyport hosts apply` again: addresses may change';
    throw unusable(path, `not the expected form; ${remedy}`, error);
  }
};

/** Addresses that a hosts file has for others: a gateway beside this one may have them. */
const takenIn = (hostsText: string, id: string, hosts: readonly NamedHost[]): Set<string> => {
  const own = new Set(hosts.flatMap(({ names }) => names));
  let others: readonly HostsEntry[];
  try {
    ({ others } = readHostsText(hostsText, id));
  } catch {
    // A damaged block is refused where it would be written; addresses are assigned without it.
    return new Set();
  }
  return new Set(
    others.filter(({ names }) => !names.every((name) => own.has(name))).map(({ address }) => address),
  );
};

const bookWith = (config: NamesConfig, hosts: readonly NamedHost[], hostsText: string, nowMs: number) => {
  const book = readBook(join(config.state_dir, FILE_NAME));
  const taken = takenIn(hostsText, blockId(config), hosts);
  const next = assignAddresses(
    book,
    hosts.map(({ host }) => host),
    taken,
    nowMs,
  );
  return { book, next };
};

const addressed = (hosts: readonly NamedHost[], book: AddressBook): AddressedHost[] => {
  const addresses = new Map(book.hosts.map(({ host, address }) => [host, address]));
  return hosts.flatMap((host) => {
    const address = addresses.get(host.host);
    return address === undefined ? [] : [{ ...host, address }];
  });
};

/** The hosts of a gateway with the addresses that they have or would get; nothing is written. @throws AppError ERR_GATEWAY_STATE */
export const previewNames = (config: NamesConfig, hostsText: string, clock: Clock): AddressedHost[] => {
  const hosts = namedHosts(config.connections);
  return addressed(hosts, bookWith(config, hosts, hostsText, clock.nowMs()).next);
};

/** What root makes belongs to whom the place belongs to, so that the gateway's own user can go on with it. */
const giveToOwner = (path: string, place: string): void => {
  if (process.getuid?.() !== 0) return;
  const { uid, gid } = statSync(place);
  chownSync(path, uid, gid);
};

const ensureStateDir = (directory: string): void => {
  if (statSync(directory, { throwIfNoEntry: false }) !== undefined) return;
  makePrivateDirectory(directory);
  giveToOwner(directory, join(directory, '..'));
};

/**
 * The hosts of a gateway with their addresses, which from now on are theirs.
 * @param hostsText the hosts file: what others have in it is not given away
 * @throws AppError ERR_GATEWAY_STATE
 */
export const assignNames = async (
  config: NamesConfig,
  hostsText: string,
  clock: Clock,
): Promise<AddressedHost[]> => {
  const path = join(config.state_dir, FILE_NAME);
  const hosts = namedHosts(config.connections);
  const isUsed = hosts.length > 0 || statSync(path, { throwIfNoEntry: false }) !== undefined;
  if (!isUsed) return [];
  try {
    ensureStateDir(config.state_dir);
  } catch (error) {
    throw unusable(config.state_dir, reasonOf(error), error);
  }
  const lock = await waitForPathLock(config.state_dir, 'names', clock, BOOK_WAIT_MS);
  if (lock === undefined)
    throw unusable(path, `another process has held it for ${BOOK_WAIT_MS / 1_000} s`, undefined);
  try {
    const { book, next } = bookWith(config, hosts, hostsText, clock.nowMs());
    if (JSON.stringify(book) !== JSON.stringify(next)) {
      writeFileAtomically(path, `${JSON.stringify(next, undefined, 2)}\n`);
      giveToOwner(path, config.state_dir);
    }
    return addressed(hosts, next);
  } catch (error) {
    if (error instanceof AppError) throw error;
    throw unusable(path, messageOf(error), error);
  } finally {
    await lock.release();
  }
};

/**
 * The lines of the hosts file that lead to a gateway. On Linux each name has a second line, for look-ups for IPv6 alone
 * (docs/transparent-names.md); other systems have not been tried.
 */
export const hostsEntries = (
  hosts: readonly AddressedHost[],
  platform: NodeJS.Platform = process.platform,
): HostsEntry[] =>
  hosts.flatMap(({ address, names }) => [
    { address, names },
    ...(platform === 'linux' ? [{ address: nameSink(address), names }] : []),
  ]);

/** Names that a hosts file does not lead to their address. */
export const missingNames = (hosts: readonly AddressedHost[], hostsText: string): string[] => {
  const found = new Set(
    allEntries(hostsText).flatMap(({ address, names }) => names.map((name) => `${name} ${address}`)),
  );
  return hosts.flatMap(({ address, names }) => names.filter((name) => !found.has(`${name} ${address}`)));
};
