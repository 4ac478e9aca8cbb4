import { Resolver } from 'node:dns/promises';
import { readFileSync } from 'node:fs';
import { foreignCodeOf, isNameAddress } from '../runtime/index.ts';

/** What resolv.conf(5) says of how names are asked for. */
export interface DnsSettings {
  /** `ADDRESS` or `ADDRESS:PORT`; empty: those of the system. */
  readonly servers: readonly string[];
  /** Appended to short names, in order. */
  readonly search: readonly string[];
  /** A name with this many dots is asked for as it is first. */
  readonly ndots: number;
}

const RESOLV_CONF = '/etc/resolv.conf';
/** systemd-resolved's stub answers from the hosts file too; the servers behind it stand here. */
const STUB = '127.0.0.53';
const UPSTREAM_CONF = '/run/systemd/resolve/resolv.conf';
/** resolv.conf(5): MAXNS, MAXDNSRCH, RES_MAXNDOTS. */
const MAX_SERVERS = 3;
const MAX_SEARCH = 6;
const MAX_NDOTS = 15;
/** One question to one server; asked twice. Two rounds over the servers stay below the 15 s of an open. */
const TIMEOUT_MS = 1_500;
const TRIES = 2;
/** The server has said that there is no such address; everything else is a server that did not answer well. */
const NO_SUCH = new Set(['ENOTFOUND', 'ENODATA']);

/** Reads the text of a resolv.conf; unknown lines say nothing. */
export const parseResolvConf = (text: string): DnsSettings => {
  const servers: string[] = [];
  let search: string[] = [];
  let ndots = 1;
  for (const line of text.split('\n')) {
    const [word = '', ...values] = line
      .replace(/[#;].*$/, '')
      .trim()
      .split(/\s+/);
    if (word === 'nameserver' && values[0] !== undefined) servers.push(values[0]);
    if (word === 'search' || word === 'domain') search = values.slice(0, word === 'domain' ? 1 : MAX_SEARCH);
    if (word !== 'options') continue;
    const found = values
      .map((value) => /^ndots:(\d{1,3})$/.exec(value)?.[1])
      .find((value) => value !== undefined);
    if (found !== undefined) ndots = Math.min(MAX_NDOTS, Number(found));
  }
  return { servers: servers.slice(0, MAX_SERVERS), search, ndots };
};

const readConf = (path: string): DnsSettings | undefined => {
  try {
    return parseResolvConf(readFileSync(path, 'utf8'));
  } catch {
    return undefined;
  }
};

/** How DNS is asked on this machine, past stubs that answer from the hosts file. */
export const dnsSettings = (): DnsSettings => {
  const own = readConf(RESOLV_CONF) ?? { servers: [], search: [], ndots: 1 };
  const isStub = own.servers.length > 0 && own.servers.every((server) => server === STUB);
  const upstream = isStub ? readConf(UPSTREAM_CONF)?.servers : undefined;
  return { ...own, servers: upstream ?? own.servers };
};

/** The names to ask for, in the order of resolv.conf(5). */
export const namesToAsk = (host: string, { search, ndots }: DnsSettings): string[] => {
  if (host.endsWith('.')) return [host.slice(0, -1)];
  const longer = search.map((domain) => `${host}.${domain.replace(/\.$/, '')}`);
  return host.split('.').length - 1 >= ndots ? [host, ...longer] : [...longer, host];
};

/**
 * A name's addresses by DNS alone, IPv4 first; none when DNS knows none but those of a gateway on this machine.
 * @throws as `node:dns` does when no server answered
 */
export const askDns = async (host: string, settings: DnsSettings): Promise<string[]> => {
  const resolver = new Resolver({ timeout: TIMEOUT_MS, tries: TRIES });
  if (settings.servers.length > 0) resolver.setServers(settings.servers);
  for (const name of namesToAsk(host, settings)) {
    const answers = await Promise.allSettled([resolver.resolve4(name), resolver.resolve6(name)]);
    const found = answers.flatMap((answer) => (answer.status === 'fulfilled' ? answer.value : []));
    const real = found.filter((address) => !isNameAddress(address));
    if (real.length > 0) return real;
    for (const answer of answers) {
      if (answer.status === 'rejected' && !NO_SUCH.has(foreignCodeOf(answer.reason) ?? ''))
        throw answer.reason;
    }
  }
  return [];
};
