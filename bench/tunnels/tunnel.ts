/** One way to reach the target: what the benchmark compares. */
export interface Tunnel {
  /** Loopback port that applications connect to. */
  readonly port: number;
  /** The tunnel's own processes by role; their descendants count with them. */
  readonly processes: Readonly<Record<string, number>>;
  close(): Promise<void>;
}

export interface TunnelKind {
  readonly name: string;
  /** Why this machine cannot run it, if so. */
  unavailable(): string | undefined;
  open(targetPort: number): Promise<Tunnel>;
}
