import { createDeployment } from '../../test/support/deployment.ts';
import { eventually } from '../../test/support/eventually.ts';
import { startGateway } from '../../test/support/second-gateway.ts';
import { TWO_NODES } from '../../test/support/two-nodes.ts';
import { type Flow, Flows } from '../load/flows.ts';
import { latencyOf } from '../load/latency.ts';
import type { Measurement } from './scenario.ts';

const CONNECTION = 'bench';
const REVOCATIONS = 20;
/** Live streams, half of them on the key that is revoked, each half over both nodes. */
const STREAMS = 1_000;
const ENDED_WITHIN_MS = 20_000;

interface NewRule {
  readonly keys: readonly {
    readonly key_id: string;
    readonly slot: string;
    readonly connection_string: string;
  }[];
}

/** 20 revocations over two relay nodes under 1,000 moving streams: the last byte of each stream at both of its ends. */
export const measureRevocationOverNodes = async (): Promise<Measurement> => {
  const closers: (() => unknown)[] = [];
  const closer = { after: (close: () => unknown) => closers.push(close) } as never;
  const flows = new Flows();
  closers.push(() => flows.close());
  try {
    const port = await flows.listen();
    const deployment = await createDeployment(closer, {
      publish: { [CONNECTION]: `127.0.0.1:${port}` },
      nodes: TWO_NODES,
    });
    await deployment.startAll();
    const api = async <T>(path: string, body: object): Promise<T> => {
      const response = await fetch(`${deployment.adminUrl}/api/v1${path}`, {
        method: 'POST',
        headers: {
          authorization: `Bearer ${deployment.adminToken}`,
          'content-type': 'application/json',
        },
        body: JSON.stringify(body),
      });
      const answer = (await response.json()) as T;
      if (!response.ok) throw new Error(`${path}: ${response.status} ${JSON.stringify(answer)}`);
      return answer;
    };
    /** A gateway at each node with a key of its own, and a quarter of the streams through each. */
    const half = async (
      name: string,
    ): Promise<{ keyId: string; flows: Flow[]; end: () => Promise<void> }> => {
      const rule = await api<NewRule>('/auth-rules', { scope: CONNECTION, name, claims: ['Send'] });
      const key = rule.keys.find(({ slot }) => slot === 'primary');
      if (key === undefined) throw new Error('no key was made');
      const gateways = await Promise.all(
        Object.entries(TWO_NODES).map(([node, host]) =>
          startGateway(closer, deployment, {
            name: `${name}-${node}`,
            connection: CONNECTION,
            connectionString: key.connection_string,
            node: host,
          }),
        ),
      );
      const opened: Flow[] = [];
      for (const { listen } of gateways) opened.push(...(await flows.open(listen, STREAMS / 4)));
      const end = async (): Promise<void> => {
        await Promise.all(gateways.map((gateway) => gateway.end()));
      };
      return { keyId: key.key_id, flows: opened, end };
    };

    const kept = await half('kept');
    const samplesMs: number[] = [];
    const endsMs: number[] = [];
    const answersMs: number[] = [];
    for (let round = 0; round < REVOCATIONS; round += 1) {
      const lost = await half(`lost-${round}`);
      const startedMs = performance.now();
      const answer = await api<{ pending: unknown[]; nodes: number; streams: number | null }>(
        `/keys/${lost.keyId}/revoke`,
        { reason: 'benchmark' },
      );
      answersMs.push(performance.now() - startedMs);
      if (answer.pending.length > 0 || answer.nodes !== 2) throw new Error(JSON.stringify(answer));
      await eventually(
        'the revoked half has ended',
        () => (lost.flows.every(({ ended }) => ended) ? true : undefined),
        ENDED_WITHIN_MS,
      );
      for (const flow of lost.flows) {
        endsMs.push(flow.endedAtMs - startedMs);
        samplesMs.push(Math.max(0, Math.max(flow.lastAtApplicationMs, flow.lastAtTargetMs) - startedMs));
      }
      const hurt = kept.flows.filter(({ ended, wrong }) => ended || wrong).length;
      if (hurt > 0) throw new Error(`${hurt} streams of the other key were hurt`);
      await lost.end();
    }
    const before = kept.flows.map(({ received }) => received);
    await eventually('the other half goes on', () =>
      kept.flows.every(({ received, wrong }, index) => !wrong && received > (before[index] ?? 0))
        ? true
        : undefined,
    );
    const last = latencyOf(samplesMs);
    const resets = latencyOf(endsMs);
    return {
      p99_ms: last.p99Ms,
      p50_ms: last.p50Ms,
      max_ms: last.maxMs,
      samples: last.count,
      reset_p50_ms: resets.p50Ms,
      reset_p99_ms: resets.p99Ms,
      answered_p50_ms: latencyOf(answersMs).p50Ms,
    };
  } finally {
    for (const close of closers.reverse()) await close();
  }
};
