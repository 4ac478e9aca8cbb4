/** What a scenario reports of a distribution, in milliseconds. */
export interface Latency {
  readonly count: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly maxMs: number;
}

/** Summarises samples in milliseconds; sorts the array in place. */
export const latencyOf = (samplesMs: number[]): Latency => {
  samplesMs.sort((a, b) => a - b);
  const at = (share: number): number =>
    samplesMs[Math.min(samplesMs.length - 1, Math.floor(samplesMs.length * share))] ?? Number.NaN;
  return { count: samplesMs.length, p50Ms: at(0.5), p99Ms: at(0.99), maxMs: at(1) };
};
