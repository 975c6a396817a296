--- Datasets and loaders: `local data = pg.data`.
-- A dataset is a table with `#set` and `set:get(i)`; `set:batch(index)` where it can do many at
-- once. A sample and a batch are tables of tensors by field name.
-- Relies on the files of perigee/data/. Spec: spec/data/dataset_spec.lua.

local dataset = require "perigee.data.dataset"
local images = require "perigee.data.mnist"

return {
  Dataset = dataset.Dataset,
  TensorDataset = dataset.TensorDataset,
  Subset = dataset.Subset,
  random_split = dataset.random_split,
  DataLoader = require "perigee.data.loader",
  mnist = images.mnist,
  fashion_mnist = images.fashion_mnist,
  csv = require "perigee.data.csv",
  find = require("perigee.data.find").find,
  image_folder = require "perigee.data.image_folder",
}
