import { isIP } from 'node:net';

/** RFC 1035 §2.3.4, octets. */
const MAX_LABEL_LENGTH = 63;
/** The last label as inet_aton(3) reads it: the whole is taken for an address and no hosts file is asked. */
const NUMBER = /^(?:\d+|0x[0-9a-f]*)$/;
/** Names that systems keep for themselves in their hosts files. */
const OF_THE_SYSTEM: ReadonlySet<string> = new Set([
  'localhost',
  'localhost.localdomain',
  'localhost4',
  'localhost4.localdomain4',
  'localhost6',
  'localhost6.localdomain6',
  'ip6-localhost',
  'ip6-loopback',
  'ip6-localnet',
  'ip6-mcastprefix',
  'ip6-allnodes',
  'ip6-allrouters',
  'broadcasthost',
]);
/** Resolvers answer these themselves (RFC 6761, RFC 7686) or by addresses. */
const RESERVED = ['localhost', 'invalid', 'onion', 'in-addr.arpa', 'ip6.arpa'];

const REMEDY = 'leave out transparent and give the connection a listen address';

/** The one form in which names are compared: lower case, without the dot at the end. */
export const hostName = (host: string): string => host.toLowerCase().replace(/\.$/, '');

/** Why a host cannot be reached under its own name, with what to do; undefined when it can. */
export const hostNameProblem = (host: string): string | undefined => {
  const name = hostName(host);
  const labels = name.split('.');
  if (isIP(name) !== 0 || NUMBER.test(labels.at(-1) ?? '')) {
    return `'${host}' is an address, which no hosts file leads elsewhere; use the target's name, or ${REMEDY}`;
  }
  if (OF_THE_SYSTEM.has(name)) return `'${host}' is a name of the machine itself; ${REMEDY}`;
  const reserved = RESERVED.find((suffix) => name === suffix || name.endsWith(`.${suffix}`));
  if (reserved !== undefined) {
    return `names under .${reserved} are reserved and resolvers answer them themselves; ${REMEDY}`;
  }
  const label = labels.find((part) => part === '' || part.length > MAX_LABEL_LENGTH);
  if (label === undefined) return undefined;
  return label === ''
    ? `'${host}' is no name: a part between dots is empty`
    : `'${host}' is no name: ${label.slice(0, 16)}… has ${label.length} characters, a part has at most ${MAX_LABEL_LENGTH}`;
};
