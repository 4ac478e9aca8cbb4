import type { GatewayLink } from '../../src/gateway/gateway-link.ts';
import { LinkPool } from '../../src/gateway/link-pool.ts';
import type { LinkFailure } from '../../src/gateway/link-search.ts';
import { NodeChoice } from '../../src/gateway/node-choice.ts';
import type { Waiter } from '../../src/gateway/waiters.ts';
import type { AttachedCredential, LinkOffer, LinkRefusal, LinkRequest } from '../../src/protocol/index.ts';
import { silentLogger } from '../../src/runtime/index.ts';
import { ManualClock } from '../support/manual-clock.ts';

export const credential = { cred: 'c1', key_id: 'k_1' } as AttachedCredential;

/** What the pool looks at of a link. */
export class FakeLink {
  readonly id: string;
  readonly node: string;
  readonly instance: string;
  readonly openedMs: number;
  readonly session = { streamCount: 0 };
  readonly offer: { readonly sender: { readonly id: string }; readonly peer: { readonly name: string } };
  isOpenable = true;
  isRetiring = false;
  isSilent = false;
  /** What it says when it is asked for a sign of life. */
  isAnswering = true;
  idle = 0;
  retiredWith: { reason: string; deadlineMs: number } | undefined;
  load = { rttMs: 1, waiting: 0, bytesIn: 0, bytesOut: 0 };

  constructor(id: string, node: string, instance: string, openedMs: number) {
    this.id = id;
    this.node = node;
    this.instance = instance;
    this.openedMs = openedMs;
    this.offer = { sender: { id: 'k_1' }, peer: { name: instance } };
  }

  stats() {
    return this.load;
  }

  answers(): Promise<boolean> {
    return Promise.resolve(this.isAnswering);
  }

  idleMs(): number {
    return this.idle;
  }

  retire(reason: string, deadlineMs: number): void {
    this.retiredWith = { reason, deadlineMs };
    this.isRetiring = true;
    this.isOpenable = false;
  }
}

export interface Rig {
  readonly clock: ManualClock;
  readonly choice: NodeChoice;
  readonly requests: { node: string; request: LinkRequest }[];
  readonly links: FakeLink[];
  /** Offers that were made and not taken up, `node: id`. */
  readonly declined: string[];
  /** Handshakes that were given up, by node. */
  readonly givenUp: string[];
  refusal: LinkFailure | undefined;
  agents: string[];
  /** Nodes that answer nothing until `thaw`. */
  readonly frozen: Set<string>;
  /** Nodes over which no handshake gets on until `thaw`. */
  readonly stuck: Set<string>;
  thaw(node: string): void;
  readonly pool: LinkPool;
}

/** A pool over nodes and agents that do as the test says; nodes are asked in the order in which they were attached. */
export const makeRig = (isEager = false, nodes: readonly string[] = ['n1', 'n2']): Rig => {
  const clock = new ManualClock();
  const choice = new NodeChoice(clock, () => 0);
  const waiting: { readonly node: string; readonly go: () => void }[] = [];
  const until = (node: string, on: Set<string>): Promise<void> =>
    on.has(node) ? new Promise((go) => waiting.push({ node, go })) : Promise.resolve();
  let offers = 0;
  const rig: Rig = {
    clock,
    choice,
    requests: [],
    links: [],
    declined: [],
    givenUp: [],
    refusal: undefined,
    agents: ['a1'],
    frozen: new Set(),
    stuck: new Set(),
    thaw: (node) => {
      rig.frozen.delete(node);
      rig.stuck.delete(node);
      for (const entry of waiting) if (entry.node === node) entry.go();
    },
    pool: new LinkPool({
      connection: 'db',
      isEager,
      nodes,
      spki: 'spki',
      clock,
      logger: silentLogger,
      choice,
      mayOpen: () => true,
      request: async (node, request): Promise<LinkOffer | LinkRefusal> => {
        rig.requests.push({ node, request });
        await until(node, rig.frozen);
        if (rig.refusal !== undefined) return { refused: true, ...rig.refusal };
        const { exclude, want } = request;
        const instance = rig.agents.find(
          (agent) => !exclude.includes(agent) && (want === undefined || want === agent),
        );
        if (instance === undefined) return { refused: true, code: 'no_agent', detail: 'none' };
        offers += 1;
        return { link_id: `o${offers}`, node, peer: { name: instance, instance } } as LinkOffer;
      },
      open: async (node, offer, signal) => {
        const aborted = new Promise<never>((_resolve, reject) => {
          signal.addEventListener('abort', () => {
            rig.givenUp.push(node);
            reject(new Error('given up'));
          });
        });
        await Promise.race([until(node, rig.stuck), aborted]);
        aborted.catch(() => undefined);
        const link = new FakeLink(`l${rig.links.length}`, node, offer.peer.instance, clock.monotonicMs());
        rig.links.push(link);
        return link as unknown as GatewayLink;
      },
      decline: (node, { link_id }) => rig.declined.push(`${node}: ${link_id}`),
    }),
  };
  return rig;
};

/** Lets everything that is ready happen. */
export const turns = async (): Promise<void> => {
  for (let turn = 0; turn < 5; turn += 1) await new Promise((resolve) => setImmediate(resolve));
};

export const waiterFor = (): Waiter & { link: GatewayLink | undefined; failure: LinkFailure | undefined } => {
  const waiter = {
    link: undefined as GatewayLink | undefined,
    failure: undefined as LinkFailure | undefined,
    serve: (link: GatewayLink) => {
      waiter.link = link;
    },
    fail: (failure: LinkFailure) => {
      waiter.failure = failure;
    },
  };
  return waiter;
};

/** A pool with one link that was made for somebody who waited. */
export const withLink = async (rig: Rig, ...nodes: string[]): Promise<FakeLink> => {
  for (const node of nodes) rig.pool.onAttached(node, credential);
  rig.pool.wait(waiterFor());
  await turns();
  const [link] = rig.links;
  if (link === undefined) throw new Error('the pool made no link');
  return link;
};

export const asLink = (link: FakeLink): GatewayLink => link as unknown as GatewayLink;
