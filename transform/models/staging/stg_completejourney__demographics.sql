with

    source as (select * from {{ source("completejourney", "demographics") }}),

    final as (

        select
            -- ids
            cast(household_id as bigint) as household_id,

            -- strings
            age,
            income,
            home_ownership,
            marital_status,
            household_size,
            household_comp as household_composition,
            kids_count

        from source

    )

select *
from final
