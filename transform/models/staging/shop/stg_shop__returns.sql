with

    source as (select * from {{ source("shop", "returns") }}),

    final as (

        select
            -- ids
            cast(return_id as bigint) as return_id,
            cast(order_id as bigint) as order_id,

            -- strings
            cast(reason as varchar) as reason,

            -- numerics
            cast(line_number as integer) as line_number,
            cast(quantity as integer) as quantity,

            -- timestamps
            cast(returned_at as timestamp) as returned_at,
            cast(updated_at as timestamp) as updated_at,
            _sdc_batched_at as loaded_at

        from source
        where _sdc_deleted_at is null

    )

select *
from final
