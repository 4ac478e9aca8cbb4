import { connect } from 'node:net';
import type { AgentInspection } from '../../agent/index.ts';
import { guardAddress } from '../../policy/index.ts';
import { type Clock, foreignCodeOf, formatHostPort, type HostPort, messageOf } from '../../runtime/index.ts';
import { type Check, checkOf } from './line.ts';
import {
  type Heard,
  heardFrom,
  protocolOf,
  questionFor,
  REACHED_HINT,
  REFUSED_HINT,
} from './target-hints.ts';

/** One connect() to one address. */
export const TARGET_CONNECT_MS = 5_000;
/** A server that speaks first, or answers, does within this; one that says nothing is fine too. */
const TARGET_ANSWER_MS = 1_500;
const MAX_ANSWER_BYTES = 4_096;

/** A connection and where its streams would go. */
export interface KnownTarget {
  readonly connection: string;
  readonly target: HostPort;
  /** Who says so. */
  readonly from: string;
}

type Reached =
  | { readonly ok: true; readonly answer: Buffer }
  | { readonly ok: false; readonly code: string; readonly detail: string };

/** Connects, asks what the protocol allows, and reads the first answer. */
const reach = (address: string, port: number, question: Buffer | undefined, clock: Clock): Promise<Reached> =>
  new Promise((resolve) => {
    const socket = connect({ host: address, port });
    let answer = Buffer.alloc(0);
    let isConnected = false;
    const finish = (reached: Reached): void => {
      patience.cancel();
      socket.removeAllListeners();
      socket.on('error', () => undefined);
      socket.destroy();
      resolve(reached);
    };
    let patience = clock.after(TARGET_CONNECT_MS, () =>
      finish({
        ok: false,
        code: 'ETIMEDOUT',
        detail: `no answer within ${String(TARGET_CONNECT_MS / 1_000)} s`,
      }),
    );
    socket.once('connect', () => {
      isConnected = true;
      patience.cancel();
      patience = clock.after(TARGET_ANSWER_MS, () => finish({ ok: true, answer }));
      if (question !== undefined) socket.write(question);
    });
    socket.on('data', (chunk: Buffer) => {
      answer = Buffer.concat([answer, chunk]).subarray(0, MAX_ANSWER_BYTES);
      finish({ ok: true, answer });
    });
    socket.once('end', () => finish({ ok: true, answer }));
    socket.once('error', (error) => {
      if (isConnected) finish({ ok: true, answer });
      else finish({ ok: false, code: foreignCodeOf(error) ?? '', detail: messageOf(error) });
    });
  });

const GUARD_REMEDIES: Readonly<Record<string, string>> = {
  own_listener:
    'the target is a listener of Sallyport itself, streams would go round: correct the target of the connection',
  loopback:
    'allow its port in allow_loopback of agent.yaml, if a service of this host is meant to be published',
  audit_database: 'set allow_audit_database, if the audit database is meant to be published',
};

/** Where a stream of one connection would go, and who answers there. */
export const targetCheck = (
  { connection, target, from }: KnownTarget,
  agent: Pick<AgentInspection, 'resolver' | 'guard'>,
  clock: Clock,
): Check =>
  checkOf('target', connection, async (lines) => {
    const { host, port } = target;
    const place = `${formatHostPort(target)} (${from})`;
    const protocol = protocolOf(port);
    if (protocol === 'sql browser')
      lines.warn(`${place}: 1434 is the port of the SQL Browser, which speaks UDP`, REFUSED_HINT[protocol]);
    const resolution = await agent.resolver.resolve(host);
    if (!resolution.ok) {
      lines.away(
        `${place} does not resolve: ${resolution.detail}`,
        `correct the target, or the name server of this host: \`getent ahosts ${host}\``,
      );
      return;
    }
    for (const address of resolution.addresses) {
      const at = host === address ? place : `${place}, ${address}`;
      const verdict = guardAddress(address, port, agent.guard);
      if (!verdict.ok) {
        lines.fail(
          `${at}: no stream may go there (${verdict.code}: ${verdict.detail})`,
          GUARD_REMEDIES[verdict.detail] ?? 'no policy can allow this address: correct the target',
        );
        continue;
      }
      const reached = await reach(address, port, questionFor(protocol, host), clock);
      if (!reached.ok) {
        const hint = REFUSED_HINT[protocol];
        const why =
          reached.code === 'ECONNREFUSED'
            ? `nobody listens there: ${hint}`
            : `a firewall may drop it, or the host is down; else ${hint}`;
        lines.away(`${at}: ${reached.detail}`, why);
        continue;
      }
      const heard: Heard =
        reached.answer.length === 0
          ? { text: 'connected; it says nothing before its client' }
          : heardFrom(protocol, reached.answer);
      const hint = REACHED_HINT[protocol];
      const text = `${at}: ${heard.text}${hint === undefined ? '' : `; ${hint}`}`;
      if (heard.remedy === undefined) lines.pass(text);
      else lines.warn(text, heard.remedy);
    }
  });
