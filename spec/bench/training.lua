--- A training case: one step is zero_grad, loss, backward and the optimizer's step. Its flop count
-- is three times that of the products in the forward pass.
-- Relies on perigee.core; spec/bench/training.py makes the same of the peer.

local core = require "perigee.core"

--- @param case table: build(pg, option) -> optimizer, function that gives the loss; and the other
-- fields of a case
-- @return the case
return function(case)
  case.training = true
  case.setup = function(pg, option)
    local optimizer, loss_of = case.build(pg, option)
    local function loss()
      if not option.precision then return loss_of() end
      local _ <close> = pg.autocast(option.precision)
      return loss_of()
    end
    local function step()
      local _ <close> = pg.scope()
      optimizer:zero_grad()
      loss():backward()
      optimizer:step()
    end
    local before = core.macs()
    do
      local _ <close> = pg.scope()
      local _ <close> = pg.no_grad()
      loss()
    end
    local flop = 6 * (core.macs() - before)
    return {{name = "", step = step, flop = flop > 0 and flop or nil}}
  end
  return case
end
