with

    source as (select * from {{ source("completejourney", "demographics") }}),

    final as (

        select
            -- ids
            cast(household_id as bigint) as household_id,

            -- strings
            cast(age as varchar) as age,
            cast(income as varchar) as income,
            cast(home_ownership as varchar) as home_ownership,
            cast(marital_status as varchar) as marital_status,
            cast(household_size as varchar) as household_size,
            cast(household_comp as varchar) as household_composition,
            cast(kids_count as varchar) as kids_count

        from source

    )

select *
from final
