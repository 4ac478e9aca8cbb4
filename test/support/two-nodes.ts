import type { Deployment, Role } from './deployment.ts';
import { eventually } from './eventually.ts';

const DEADLINE_MS = 30_000;

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
