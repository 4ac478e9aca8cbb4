import { lookup } from 'node:dns/promises';
import { isIP } from 'node:net';
import { networkInterfaces } from 'node:os';
import { connect as connectTls, type TLSSocket } from 'node:tls';
import { request } from 'node:https';
import {
  carrierChoices,
  chainOf,
  dial,
  handshakeOf,
  probe,
  type Proxy,
  type ProxyFor,
  type RelayNodeConfig,
  type RevocationMode,
  ServerRevocation,
} from '../../protocol/index.ts';
import {
  type Clock,
  foreignCodeOf,
  formatHostPort,
  messageOf,
  silentLogger,
  spkiFingerprint,
  withoutZone,
} from '../../runtime/index.ts';
import { type Check, checkOf, type Lines } from './line.ts';

/** A clock that is wrong by more makes credentials that are refused (identity.md, Credentials: 60 s). */
export const CLOCK_LIMIT_MS = 60_000;
/** A certificate that ends sooner is worth a word. */
export const EXPIRY_WARNING_MS = 14 * 24 * 60 * 60 * 1000;

/** What the words of product.md and docs/ARCHITECTURE.md say of somebody between an end and the relay. */
const INTERCEPTED =
  "who answers in its place reads credentials: it is a relay in an attacker's hands unless both ends are enrolled";

/** How this process reaches relays. */
export interface RelayAccess {
  readonly relays: readonly RelayNodeConfig[];
  readonly ca: string | undefined;
  readonly caFile: string | undefined;
  readonly revocation: RevocationMode;
  /** Key of the one certificate that may answer (SHA-256 of its SPKI), where it is known; authorities are not asked then. */
  readonly expectedSpki?: string | undefined;
  readonly clock: Clock;
  readonly proxies: ProxyFor;
}

/** One port, or several of which the first that answers is taken. */
const portsOf = (ports: number | readonly number[]): readonly number[] =>
  typeof ports === 'number' ? [ports] : ports;

const hasIpv6 = (): boolean =>
  Object.values(networkInterfaces())
    .flat()
    .some(
      (one) =>
        one?.family === 'IPv6' && !one.internal && !withoutZone(one.address).toLowerCase().startsWith('fe80'),
    );

const proxyOf = (proxies: ProxyFor, host: string, port: number): Proxy | undefined => {
  try {
    return proxies(host, port);
  } catch {
    return undefined;
  }
};

/** Addresses of a name. */
const dnsCheck = (host: string, isProxied: boolean): Check =>
  checkOf('dns', host, async (lines) => {
    if (isIP(host) !== 0) {
      lines.pass('an address, no name');
      return;
    }
    let addresses: readonly { address: string; family: number }[];
    try {
      addresses = await lookup(host, { all: true });
    } catch (thrown) {
      const detail = `the name does not resolve: ${foreignCodeOf(thrown) ?? messageOf(thrown)}`;
      if (isProxied) lines.warn(detail, 'the proxy resolves it; nothing to do when the ports below answer');
      else lines.away(detail, `correct relays, or the name server of this host: \`getent ahosts ${host}\``);
      return;
    }
    const text = addresses
      .map(({ address, family }) => `${family === 4 ? 'A' : 'AAAA'} ${address}`)
      .join(', ');
    if (
      addresses.every(({ family }) => family === 6) &&
      !hasIpv6() &&
      !addresses.every(({ address }) => address === '::1')
    )
      lines.warn(
        `${text}; this host has no IPv6 address`,
        'give the relay an IPv4 address (A record), or this host IPv6',
      );
    else lines.pass(text);
  });

/** What to do about a port that cannot be reached. */
const portRemedy = (host: string, port: number, proxy: Proxy | undefined, detail: string): string => {
  if (detail.includes('proxy answered 407'))
    return 'the proxy asks for a user: put http://USER:PASSWORD@HOST:PORT into HTTPS_PROXY';
  if (detail.includes('proxy answered'))
    return `the proxy refuses it: let it CONNECT to ${formatHostPort({ host, port })}, or name the relay in NO_PROXY`;
  if (proxy !== undefined)
    return `is the proxy ${proxy.url.host} right? proxy of the configuration, or HTTPS_PROXY and NO_PROXY, name it`;
  return `have outbound TCP to ${formatHostPort({ host, port })} allowed, and see that the relay listens there`;
};

const portCheck = (
  { host, port }: { readonly host: string; readonly port: number },
  use: string,
  isNeeded: boolean,
  { clock, proxies }: RelayAccess,
): Check =>
  checkOf('port', formatHostPort({ host, port }), async (lines, signal) => {
    const startedMs = clock.monotonicMs();
    try {
      const proxy = proxies(host, port);
      const socket = await dial(host, port, { clock, signal, proxies });
      socket.destroy();
      const by = proxy === undefined ? 'directly' : `through the proxy ${proxy.url.host}`;
      lines.pass(`${use}: reached ${by} in ${String(Math.round(clock.monotonicMs() - startedMs))} ms`);
    } catch (thrown) {
      const detail = `${use}: ${messageOf(thrown)}`;
      const remedy = portRemedy(host, port, proxyOf(proxies, host, port), detail);
      if (isNeeded) lines.away(detail, remedy);
      else lines.warn(detail, `${remedy}; another port of the node takes its place meanwhile`);
    }
  });

/** What TLS says of the server, whether it is trusted or not. */
const secured = async (
  host: string,
  port: number,
  access: RelayAccess,
  signal: AbortSignal,
): Promise<TLSSocket> => {
  const raw = await dial(host, port, { clock: access.clock, signal, proxies: access.proxies });
  const secure = connectTls({
    socket: raw,
    ALPNProtocols: ['http/1.1'],
    minVersion: 'TLSv1.2',
    ...(isIP(host) === 0 ? { servername: host } : { host }),
    ...(access.ca === undefined ? {} : { ca: access.ca }),
    // Looked at, not trusted: nothing is told to it but a request for its time.
    rejectUnauthorized: false,
  });
  signal.addEventListener('abort', () => secure.destroy(), { once: true });
  await handshakeOf(secure);
  return secure;
};

/** The server's own word on the time, milliseconds since the epoch; undefined when it says none. */
const dateOf = (secure: TLSSocket, host: string): Promise<number | undefined> =>
  new Promise((resolve, reject) => {
    const asked = request({ createConnection: () => secure, host, path: '/', method: 'HEAD' });
    asked.once('response', (response) => {
      const ms = Date.parse(response.headers.date ?? '');
      response.resume();
      resolve(Number.isNaN(ms) ? undefined : ms);
    });
    asked.once('error', reject);
    asked.end();
  });

const DATE_PROBLEMS: Readonly<Record<string, string>> = {
  CERT_HAS_EXPIRED:
    'renew the certificate of the relay (tls.cert_file) and restart it; look at the clock of this host',
  CERT_NOT_YET_VALID: 'set the clock of this host',
};

/** Who answers at an address whose certificate nobody trusted vouches for. */
const untrusted = async (
  lines: Lines,
  host: string,
  port: number,
  issuer: string,
  access: RelayAccess,
  signal: AbortSignal,
): Promise<void> => {
  const where = access.caFile === undefined ? 'the system' : `ca_file ${access.caFile}`;
  const about = `the certificate is issued by ${JSON.stringify(issuer)}, which is no authority of ${where}`;
  try {
    const { host: answered } = await probe(host, port, { clock: access.clock, signal });
    lines.fail(
      `${about}; a relay answers there, by its own word ${answered}; if it is not yours, ${INTERCEPTED}`,
      'compare the issuer with the certificate on the relay, and name its authority as ca_file if it is the one',
    );
  } catch {
    lines.fail(
      `intercepted: ${about}, and what answers speaks no Sallyport; ${INTERCEPTED}`,
      `have ${formatHostPort({ host, port })} exempted from TLS inspection, or correct relays`,
    );
  }
};

const clockLine = (lines: Lines, skewMs: number): void => {
  const seconds = String(Math.round(Math.abs(skewMs) / 1_000));
  const limit = `the limit is ${String(CLOCK_LIMIT_MS / 1_000)} s`;
  const which = skewMs > 0 ? 'behind' : 'ahead of';
  if (Math.abs(skewMs) > CLOCK_LIMIT_MS)
    lines.fail(
      `the clock of this host is ${seconds} s ${which} that of the relay; ${limit}`,
      'set the clock (NTP) of the one that is wrong',
    );
  else lines.pass(`within ${seconds} s of the relay's; ${limit}`);
};

const oneLine = (name: string): string => name.replaceAll('\n', ', ');

/** TLS of one port: chain, name, dates, revocation; and, as it is asked anyway, the clock. */
const tlsChecks = (host: string, port: number, access: RelayAccess): Check => {
  const subject = formatHostPort({ host, port });
  const { clock } = access;
  return {
    check: 'tls',
    subject,
    async run(signal) {
      const tls = await checkOf('tls', subject, async (lines) => {
        const secure = await secured(host, port, access, signal);
        try {
          const chain = chainOf(secure);
          const [own] = chain;
          if (own === undefined) {
            lines.fail('the server shows no certificate', 'look at tls of relay.yaml');
            return;
          }
          const issuer = oneLine(own.issuer);
          const problem = secure.authorizationError as unknown;
          // OpenSSL's name of the problem, as text or as the code of an error.
          const code = typeof problem === 'string' ? problem : foreignCodeOf(problem);
          const endsMs = Date.parse(own.validTo);
          const spki = spkiFingerprint(own);
          if (access.expectedSpki !== undefined) {
            if (spki === access.expectedSpki)
              lines.pass(`the node's own certificate answers, key sha256 ${spki}`);
            else
              lines.fail(
                `intercepted: another key answers (sha256 ${spki}, issued by ${JSON.stringify(issuer)}); ${INTERCEPTED}`,
                'let TCP through to the node as it is; if the certificate was just renewed, restart the node',
              );
          } else if (secure.authorized) {
            const left = endsMs - clock.nowMs();
            const detail = `${secure.getProtocol() ?? 'TLS'}, issued by ${JSON.stringify(issuer)}, valid until ${new Date(endsMs).toISOString()}, key sha256 ${spki}`;
            if (left < EXPIRY_WARNING_MS)
              lines.warn(detail, 'renew the certificate of the relay before it ends');
            else lines.pass(detail);
          } else if (code === 'ERR_TLS_CERT_ALTNAME_INVALID') {
            lines.fail(
              `the certificate is for ${own.subjectAltName ?? 'no name'}, not for ${host}`,
              'use a name of the certificate in relays, or issue one for this name',
            );
          } else if (code !== undefined && code in DATE_PROBLEMS) {
            lines.fail(
              `the certificate holds from ${own.validFrom} to ${own.validTo} (${code})`,
              DATE_PROBLEMS[code] ?? '',
            );
          } else {
            await untrusted(lines, host, port, issuer, access, signal);
          }
          if (secure.authorized) await revocationLines(lines, chain, access, signal);
        } finally {
          secure.destroy();
        }
      }).run(signal);
      if (tls.some(({ detail }) => detail.startsWith('intercepted'))) return tls;
      const time = await checkOf('clock', subject, async (lines) => {
        const secure = await secured(host, port, access, signal);
        const startedMs = clock.monotonicMs();
        try {
          const theirs = await dateOf(secure, host);
          const roundTripMs = clock.monotonicMs() - startedMs;
          if (theirs === undefined) lines.skip('the relay tells no time');
          // Whole seconds: half of one on average is cut off.
          else clockLine(lines, theirs + 500 - (clock.nowMs() - roundTripMs / 2));
        } finally {
          secure.destroy();
        }
      }).run(signal);
      return [...tls, ...time];
    },
  };
};

const revocationLines = async (
  lines: Lines,
  chain: Parameters<ServerRevocation['judge']>[0],
  { clock, revocation: mode }: RelayAccess,
  signal: AbortSignal,
): Promise<void> => {
  if (mode === 'off') {
    lines.skip('revocation: tls.revocation is off');
    return;
  }
  // Kept nowhere: what the process itself keeps is its own.
  const judge = new ServerRevocation({ mode, stateDir: undefined, clock, logger: silentLogger });
  for (const { state, detail } of await judge.judge(chain, signal)) {
    const text = `revocation: ${detail}`;
    const reach = 'let this host reach port 80 of its CRL server, or set tls.revocation to off';
    if (state === 'revoked')
      lines.fail(text, 'have another certificate issued for the relay, with a new key');
    else if (state === 'good' || (state === 'none' && mode === 'soft')) lines.pass(text);
    else if (state === 'none')
      lines.fail(text, 'issue it with a CRL distribution point, or set tls.revocation to soft');
    else if (mode === 'soft') lines.warn(text, reach);
    else lines.fail(text, reach);
  }
};

/** Whether one process answers at all ports of a node. */
const identityCheck = ({ host, data_ports: ports }: RelayNodeConfig, clock: Clock): Check =>
  checkOf('node', host, async (lines, signal) => {
    const answers = await Promise.all(
      ports.map((port) => probe(host, port, { clock, signal }).catch((thrown: unknown) => messageOf(thrown))),
    );
    const known = answers.filter((answer) => typeof answer !== 'string');
    const [first] = known;
    if (first === undefined) {
      lines.away(
        `no relay answers at its data ports: ${answers.map(String).join('; ')}`,
        'see the ports above; where they answer, something between here and the relay takes TLS apart',
      );
      return;
    }
    const runs = new Set(known.map(({ run }) => run));
    if (first.host !== host)
      lines.fail(
        `the node calls itself ${first.host}`,
        `write ${first.host} in relays, or ${host} as public.host of relay.yaml: links find their node by it`,
      );
    else if (runs.size > 1)
      lines.fail('several processes answer there', 'give each relay node an address or a port of its own');
    else lines.pass('one relay node answers, under this name');
  });

/** Every check of the way to the relay nodes. */
export const relayChecks = (access: RelayAccess): Check[] =>
  access.relays.flatMap((node) => {
    const { host, control_port: control, data_ports: data } = node;
    const controlPorts = portsOf(control);
    const isProxied = proxyOf(access.proxies, host, controlPorts[0] ?? 0) !== undefined;
    const uses = new Map<number, string>();
    for (const port of controlPorts) uses.set(port, 'control links');
    for (const port of data) uses.set(port, uses.has(port) ? 'control and data links' : 'data links');
    for (const { kind, port } of carrierChoices(node))
      if (kind === 'websocket' && !uses.has(port)) uses.set(port, 'data links in a WebSocket');
    const isNeeded = (port: number): boolean =>
      (controlPorts.length === 1 && controlPorts[0] === port) || (data.length === 1 && data[0] === port);
    return [
      dnsCheck(host, isProxied),
      ...[...uses].map(([port, use]) => portCheck({ host, port }, use, isNeeded(port), access)),
      ...controlPorts.slice(0, 1).map((port) => tlsChecks(host, port, access)),
      identityCheck(node, access.clock),
    ];
  });

/** Which proxy is used, for everything. */
export const proxyCheck = ({ relays, proxies }: Pick<RelayAccess, 'relays' | 'proxies'>): Check =>
  checkOf('proxy', 'outbound', async (lines) => {
    const used = new Set<string>();
    for (const { host, control_port: control } of relays) {
      try {
        const proxy = proxies(host, portsOf(control)[0] ?? 0);
        used.add(
          proxy === undefined
            ? `${host} directly`
            : `${host} through ${proxy.url.host}${(await proxy.credentials()) === undefined ? ', without a user' : ' as a user'}`,
        );
      } catch (thrown) {
        lines.fail(messageOf(thrown), 'set HTTPS_PROXY to http://HOST:PORT, or unset it');
        return;
      }
    }
    lines.pass([...used].join('; '));
  });
