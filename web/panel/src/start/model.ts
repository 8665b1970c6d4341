/** A model that an agent is to be started with, and its parameters. */
export type Picked = {
  id: string
  params?: { id: string; value: string }[]
}
