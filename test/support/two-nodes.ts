import { createDeployment, type Deployment, type DeploymentOptions, type Role } from './deployment.ts';
import { eventually } from './eventually.ts';
import type { Closer } from './temporary.ts';

const DEADLINE_MS = 30_000;

/** Two relay nodes on one machine: each has a loopback address of its own as its host. */
export const TWO_NODES = { 'relay-a': '127.0.0.2', 'relay-b': '127.0.0.3' } as const;

/** What `init` writes for two nodes and connection `shop`, with `more`, to a loopback port; nothing is started yet. */
export const createTwoNodes = (
  t: Closer,
  targetPort: number,
  options: Pick<DeploymentOptions, 'edit'> & { readonly more?: readonly string[] } = {},
): Promise<Deployment> => {
  const { more = [], ...rest } = options;
  const names = ['shop', ...more];
  const publish = Object.fromEntries(names.map((name) => [name, `127.0.0.1:${targetPort}`]));
  return createDeployment(t, { ...rest, publish, nodes: TWO_NODES });
};

/** Waits until the agent and the gateway are linked at both nodes, as the node that is asked knows it. */
export const everybodyAtBoth = async (deployment: Deployment, asked: Role): Promise<void> => {
  await eventually(
    'everybody is at both nodes',
    async () => {
      const answer = await fetch(`${deployment.adminUrlOf(asked)}/api/v1/nodes`, {
        headers: { Authorization: `Bearer ${deployment.adminToken}` },
      });
      const { items } = (await answer.json()) as { items: { agents: number; gateways: number }[] };
      const both = items.filter(({ agents, gateways }) => agents === 1 && gateways === 1);
      return both.length === 2 ? true : undefined;
    },
    DEADLINE_MS,
  );
};
