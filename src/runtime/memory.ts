/** How a process that moves data gets its memory; both as in the first line of bin/sallyport (docs/adr/0005). */
export const NODE_FLAGS: readonly string[] = ['--min-semi-space-size=16'];
export const MALLOC_SETTINGS = {
  MALLOC_TRIM_THRESHOLD_: '134217728',
  MALLOC_MMAP_THRESHOLD_: '4194304',
} as const;
