import type { AuditLog } from '../audit/index.ts';
import type { GuardSettings, ManagedSettings, PolicyInputBase } from '../policy/index.ts';
import type { Clock, CloseReason, Logger, TimerWheel } from '../runtime/index.ts';
import type { Decided } from './decided.ts';
import type { DenialGate } from './denial-gate.ts';
import type { Connect } from './dialler.ts';
import type { FailureLog } from './failures.ts';
import type { Keeper } from './keeper.ts';
import type { LiveStreams } from './live-streams.ts';
import type { AgentMetrics } from './metrics.ts';
import type { PolicyPort } from './policy-port.ts';
import type { Resolver } from './resolver.ts';
import type { SlotTable } from './slots.ts';
import type { TargetHealth } from './target-health.ts';

export interface OpenLimits {
  /** From OPEN to ACCEPT. */
  readonly openTimeoutMs: number;
  /** One connect() to one address. */
  readonly connectTimeoutMs: number;
}

/** Everything the way of one stream from OPEN to ACCEPT needs. */
export interface OpenDeps {
  readonly agentName: string;
  readonly clock: Clock;
  readonly wheel: TimerWheel;
  readonly logger: Logger;
  readonly resolver: Resolver;
  readonly slots: SlotTable;
  readonly streams: LiveStreams;
  readonly keeper: Keeper;
  readonly policy: PolicyPort;
  readonly audit: Pick<AuditLog, 'record' | 'note'>;
  readonly connect: Connect;
  readonly failures: FailureLog;
  /** Told what each dial comes to. */
  readonly targets: Pick<TargetHealth, 'reached' | 'failed'>;
  readonly metrics: AgentMetrics;
  readonly denials: DenialGate;
  readonly limits: () => OpenLimits;
  readonly guard: () => GuardSettings;
  readonly managed: () => ManagedSettings;
  /** `time` and `managed` of the policy input, now. */
  readonly now: () => Pick<PolicyInputBase, 'time' | 'managed'>;
  /** Why the agent itself takes no stream now. */
  readonly barred: () => CloseReason | undefined;
  /** Told of each decision once it is in force; whoever listens takes note and returns. */
  readonly onDecided: (decided: Decided) => void;
}
