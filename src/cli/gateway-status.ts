import { z } from 'zod';
import type { Output } from './output.ts';

/** A listener on loopback answers at once or not at all. */
const ANSWER_MS = 2_000;

const statusSchema = z.object({
  entrances: z.array(
    z.object({
      kind: z.string(),
      listen: z.string(),
      connections: z.array(z.string()),
      names: z.array(z.string()).nullable(),
      clients: z.array(z.string()),
      login: z.boolean(),
    }),
  ),
  connections: z.array(z.object({ connection: z.string(), problem: z.string().nullable() })),
});

/** The ways into a gateway, and what keeps its connections from working. */
export type GatewayEntrances = z.infer<typeof statusSchema>;

/**
 * What a gateway says of the ways into it.
 * @param statusUrl `http://ADDR:PORT`
 * @returns undefined when nobody answers there, or something else does
 */
export const gatewayEntrances = async (statusUrl: string): Promise<GatewayEntrances | undefined> => {
  try {
    const response = await fetch(`${statusUrl}/status`, { signal: AbortSignal.timeout(ANSWER_MS) });
    return statusSchema.parse(await response.json());
  } catch {
    return undefined;
  }
};

const portOf = (listen: string): string => listen.slice(listen.lastIndexOf(':') + 1);

/** Shows where applications connect to. */
export const showGatewayEntrances = (
  output: Output,
  { entrances, connections }: Pick<GatewayEntrances, 'entrances' | 'connections'>,
): void => {
  output.table(entrances, [
    { title: 'entrance', value: (row) => row.kind },
    { title: 'listen', value: (row) => row.listen },
    { title: 'connections', value: (row) => row.connections.join(' ') },
    {
      title: 'transparent name',
      value: ({ names, listen }) => names && `${names.join(' ')} port ${portOf(listen)}`,
    },
    { title: 'clients', value: (row) => row.clients.join(' ') },
    { title: 'login', value: (row) => (row.login ? 'yes' : 'no') },
  ]);
  for (const { connection, problem } of connections) {
    if (problem !== null) output.line(`connection ${connection}: ${problem}`);
  }
};
