import type { TunnelKind } from './tunnel.ts';

/** No tunnel at all: what the machine itself can do. */
export const direct: TunnelKind = {
  name: 'direct TCP',
  unavailable: () => undefined,
  open: (targetPort) => Promise.resolve({ port: targetPort, processes: {}, close: () => Promise.resolve() }),
};
