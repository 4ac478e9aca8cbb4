import { readFile } from 'node:fs/promises';
import { BlockList, isIP } from 'node:net';
import { z } from 'zod';
import { AppError, environment, foreignCodeOf, messageOf, withoutZone } from '../../runtime/index.ts';

export type ProxyErrorCode = 'ERR_CARRIER_PROXY';

/** A proxy that is asked for a way by CONNECT. */
export interface Proxy {
  /** `http:` or `https:`, without credentials. */
  readonly url: URL;
  /**
   * `user:password`; undefined when there is none.
   * @throws AppError ERR_CARRIER_PROXY
   */
  readonly credentials: () => Promise<string | undefined>;
  /**
   * PEM of the authorities that vouch for a proxy over TLS; undefined: the system's.
   * @throws AppError ERR_CARRIER_PROXY
   */
  readonly ca: () => Promise<string | undefined>;
}

/** The proxy on the way to a destination; undefined when it is dialled directly. */
export type ProxyFor = (host: string, port: number) => Proxy | undefined;

type Environment = Readonly<Record<string, string | undefined>>;

const FAMILY = { 4: 'ipv4', 6: 'ipv6' } as const;
const ADDRESS_BITS = { 4: 32, 6: 128 } as const;
/** Exclusions of one configuration. */
const MAX_EXCLUSIONS = 256;

const failed = (message: string, cause?: unknown): AppError<ProxyErrorCode> =>
  new AppError('ERR_CARRIER_PROXY', message, { retryable: true, cause });

const familyOf = (address: string): 4 | 6 | undefined => {
  const family = isIP(address);
  return family === 4 || family === 6 ? family : undefined;
};

const isInNetwork = (address: string, entry: string): boolean => {
  const [network = '', bits] = entry.split('/');
  const [family, ofNetwork] = [familyOf(address), familyOf(network)];
  if (family === undefined || ofNetwork === undefined) return false;
  const prefix = bits === undefined ? ADDRESS_BITS[ofNetwork] : Number(bits);
  if (!Number.isInteger(prefix) || prefix < 0 || prefix > ADDRESS_BITS[ofNetwork]) return false;
  const list = new BlockList();
  list.addSubnet(network, prefix, FAMILY[ofNetwork]);
  return list.check(address, FAMILY[family]);
};

const bare = (name: string): string => name.replace(/^\[([^\]]*)\]/, '$1').replace(/\.$/, '');

/**
 * Whether an entry of NO_PROXY names a destination, as curl reads it: `*`; a domain, with all below it, with or without
 * a dot before it; an address; a network as ADDRESS/BITS. Beyond curl: `*.` before a domain, `:PORT` behind anything.
 */
const excludes = (entry: string, host: string, port: number): boolean => {
  const [, name = '', wantedPort] = /^(\[[^\]]*\]|[^:]*|.*:.*:.*?)(?::(\d+))?$/.exec(entry) ?? [];
  if (wantedPort !== undefined && Number(wantedPort) !== port) return false;
  if (name === '*') return true;
  const wanted = bare(name);
  const target = bare(host);
  if (isIP(target) !== 0) return isInNetwork(withoutZone(target), wanted);
  const domain = wanted.replace(/^\*?\./, '');
  return domain !== '' && (target === domain || target.endsWith(`.${domain}`));
};

const isExcluded = (exclusions: readonly string[], host: string, port: number): boolean =>
  exclusions.some((entry) => excludes(entry.trim().toLowerCase(), host.toLowerCase(), port));

/** `http://` or `https://`, a host, and nothing behind it. */
export const isProxyAddress = (text: string): boolean => {
  if (!URL.canParse(text)) return false;
  const { protocol, hostname, pathname, search, hash } = new URL(text);
  return (
    (protocol === 'http:' || protocol === 'https:') &&
    hostname !== '' &&
    pathname === '/' &&
    search + hash === ''
  );
};

const readText = async (file: string | undefined): Promise<string | undefined> => {
  if (file === undefined) return undefined;
  try {
    return (await readFile(file, 'utf8')).trim();
  } catch (cause) {
    throw failed(`cannot read ${file} for the proxy: ${foreignCodeOf(cause) ?? messageOf(cause)}`, cause);
  }
};

/** What names a proxy. The files are read at each use, so that they may be renewed in place. */
interface ProxySource {
  readonly url: string;
  readonly credentialsFile?: string | undefined;
  readonly caFile?: string | undefined;
}

const proxyOf = ({ url: text, credentialsFile, caFile }: ProxySource): Proxy => {
  const url = new URL(text);
  const own =
    url.username === '' ? undefined : [url.username, url.password].map(decodeURIComponent).join(':');
  url.username = '';
  url.password = '';
  return {
    url,
    credentials: async () => (await readText(credentialsFile)) ?? own,
    ca: () => readText(caFile),
  };
};

/** Never through a proxy. */
export const noProxy: ProxyFor = () => undefined;

/**
 * The proxy of `https_proxy` or `HTTPS_PROXY`, unless `no_proxy` or `NO_PROXY` names the destination; the first of each
 * that is set counts. An address without a scheme is an `http://` one.
 *
 * @throws AppError ERR_CARRIER_PROXY at the first use when the address is none
 */
export const environmentProxy =
  (from: Environment = environment): ProxyFor =>
  (host, port) => {
    const text = from['https_proxy'] ?? from['HTTPS_PROXY'];
    if (text === undefined || text === '') return undefined;
    const exclusions = (from['no_proxy'] ?? from['NO_PROXY'] ?? '').split(/[\s,]+/);
    if (isExcluded(exclusions, host, port)) return undefined;
    const url = text.includes('://') ? text : `http://${text}`;
    if (!isProxyAddress(url)) throw failed('HTTPS_PROXY is not an http:// or https:// address');
    return proxyOf({ url });
  };

const ADDRESS_FORM = 'an http:// or https:// address, or none';
export const proxyAddressSchema = z
  .string()
  .refine((text) => text === 'none' || isProxyAddress(text), ADDRESS_FORM);

/** `proxy` of agent.yaml and gateway.yaml. It takes the place of the environment's, exclusions included. */
export const proxySettingsSchema = z
  .strictObject({
    /** `http://` or `https://`, or `none`: everything is dialled directly, whatever the environment says. */
    url: proxyAddressSchema,
    /** Destinations that are dialled directly, as in NO_PROXY. */
    no_proxy: z.array(z.string().min(1)).max(MAX_EXCLUSIONS).default([]),
    /** `user:password` for it, in place of what its address has. */
    credentials_file: z.string().min(1).optional(),
    /** Certificates that vouch for an `https://` proxy; default: the system's. */
    ca_file: z.string().min(1).optional(),
  })
  .refine(({ url, credentials_file: file }) => url !== 'none' || file === undefined, {
    path: ['credentials_file'],
    message: 'credentials_file is for the proxy that url names',
  });

export type ProxySettings = z.output<typeof proxySettingsSchema>;

/** The proxies that a configuration names; without one, those of the environment. */
export const configuredProxy = (settings: ProxySettings | undefined): ProxyFor => {
  if (settings === undefined) return environmentProxy();
  const { url, no_proxy: exclusions, credentials_file: credentialsFile, ca_file: caFile } = settings;
  if (url === 'none') return noProxy;
  const proxy = proxyOf({ url, credentialsFile, caFile });
  return (host, port) => (isExcluded(exclusions, host, port) ? undefined : proxy);
};
